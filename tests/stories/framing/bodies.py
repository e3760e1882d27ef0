"""Requests the end of whose body readers of HTTP may see in different places, and what must become of each."""

from __future__ import annotations

from tests.stories.doors import BODY, chunked
from tests.stories.framing.case import (
    ANSWERED,
    AS_RELAYED,
    CHUNKS,
    EITHER,
    HIDDEN,
    LENGTH,
    OK,
    REFUSED,
    RELAYED,
    ROUTED,
    SECRET,
    SIZE,
    TE,
    TOO_LARGE,
    TOO_MUCH,
    UNKNOWN_CODING,
    Case,
    Table,
    expect,
    get,
    length,
    post,
)


def _length(value: bytes) -> bytes:
    return post(b"Content-Length: " + value)


LENGTHS: Table = {
    "a length": Case(post(LENGTH), ROUTED),
    "a length with zeros before it": Case(_length(b"0%d" % len(BODY)), ROUTED),
    "a length that is no number": Case(_length(b"abc"), REFUSED),
    "a negative length": Case(_length(b"-5"), REFUSED),
    "a signed length": Case(_length(b"+%d" % len(BODY)), REFUSED),
    "a length in hexadecimal": Case(_length(b"0x4f"), REFUSED),
    "a length in other digits": Case(_length("٧٩".encode()), REFUSED),
    "a length with an underscore": Case(_length(b"7_9"), REFUSED),
    "a length with a point": Case(_length(b"%d.0" % len(BODY)), REFUSED),
    "a length with an exponent": Case(_length(b"79e0"), REFUSED),
    "a length in quotes": Case(_length(b'"%d"' % len(BODY)), REFUSED),
    "a length with a space in it": Case(_length(b"7 9"), REFUSED),
    "a length with a parameter": Case(_length(b"%d;a" % len(BODY)), REFUSED),
    "a length with a vertical tab": Case(_length(b"\x0b%d" % len(BODY)), REFUSED),
    "a length with a form feed": Case(_length(b"%d\x0c" % len(BODY)), REFUSED),
    "an empty length": Case(_length(b""), REFUSED),
    "a list of equal lengths": Case(_length(b"%d, %d" % (len(BODY), len(BODY))), REFUSED),  # [6.3] may be refused
    "a list of lengths": Case(_length(b"5, %d" % len(BODY)), REFUSED),
    "a length and a comma": Case(_length(b"%d," % len(BODY)), REFUSED),
    "a length of twenty digits": Case(_length(b"9" * 20), TOO_LARGE),
    "a length just over 64 bits": Case(_length(b"%d" % (2**64 + len(BODY))), TOO_LARGE),
    "a length of five thousand digits": Case(_length(b"9" * 5000), TOO_LARGE),
    "the same length twice": Case(post(LENGTH, LENGTH), REFUSED),
    "two lengths": Case(post(b"Content-Length: 5", LENGTH), REFUSED),
    "two lengths, one signed": Case(post(LENGTH, b"Content-Length: +%d" % len(BODY)), REFUSED),
    "a length behind a space": Case(post(LENGTH.replace(b":", b" :")), REFUSED),
    "a length behind a tab": Case(post(LENGTH.replace(b":", b"\t:")), REFUSED),
    "a length behind a NUL": Case(post(LENGTH.replace(b":", b"\x00:")), REFUSED),
    "a length behind a bare LF": Case(post(b"X: a\n" + LENGTH), REFUSED),
    "a length behind a bare CR": Case(post(b"X: a\r" + LENGTH), REFUSED),
    "a length that is another header": Case(get(b"Content_Length: %d" % len(HIDDEN)), ANSWERED),
    "no length": Case(post(), expect({400, 411}, then=frozenset({400}))),  # [6.3] no body: it begins a request
    "a length too small": Case(_length(b"5"), expect(400, then=frozenset({400}))),
    "a length too large": Case(_length(b"%d" % (len(BODY) + 5)), expect(400, then=frozenset({400}))),
    "a length of zero": Case(post(b"Content-Length: 0", body=b""), expect({400, 411}, then=OK)),
    "GET with a body": Case(get(length(HIDDEN)) + HIDDEN, ANSWERED),
    "GET with the body of a request": Case(get(length(BODY)) + BODY, ANSWERED),
    "HEAD with a body": Case(get(length(HIDDEN)).replace(b"GET", b"HEAD", 1) + HIDDEN, ANSWERED, bodiless=True),
    "OPTIONS with a body": Case(
        get(length(HIDDEN)).replace(b"GET", b"OPTIONS", 1) + HIDDEN, expect(204, then=OK, must=True)
    ),
    "DELETE with a body": Case(
        get(length(HIDDEN), path=b"/api/delete").replace(b"GET", b"DELETE", 1) + HIDDEN,
        expect(403, then=OK, must=True),
    ),
    "an unknown path with a body": Case(post(length(HIDDEN), body=HIDDEN, path=b"/nothing"), expect(404, then=OK)),
    "a denied model with a request behind its body": Case(
        post(length(BODY), body=BODY.replace(b"llama3.2", b"denied-1")), expect(403, then=OK, must=True)
    ),
    "a refused body that hides a request": Case(post(length(HIDDEN), body=HIDDEN), expect(400, then=OK)),
}


def _coded(value: bytes, *more: bytes, body: bytes = CHUNKS) -> bytes:
    return post(b"Transfer-Encoding:" + value, *more, body=body)


CODINGS: Table = {
    "length, then chunks": Case(post(LENGTH, TE, body=CHUNKS), REFUSED),
    "chunks, then length": Case(post(TE, LENGTH, body=CHUNKS), REFUSED),
    "chunks and a length of zero": Case(post(b"Content-Length: 0", TE, body=CHUNKS), REFUSED),
    "chunks and a length that covers all": Case(post(TE, length(CHUNKS), body=CHUNKS), REFUSED),
    "CL.TE": Case(post(b"Content-Length: %d" % (5 + len(HIDDEN)), TE, body=b"0\r\n\r\n" + HIDDEN), REFUSED),
    "TE.CL": Case(post(b"Content-Length: 4", TE, body=chunked(HIDDEN)), REFUSED),
    "Chunked": Case(_coded(b" Chunked"), RELAYED),  # [7] names of codings ignore case
    "chunks without a space": Case(_coded(b"chunked"), RELAYED),
    "chunks behind a space": Case(post(TE.replace(b":", b" :"), body=CHUNKS), REFUSED),
    "chunks behind a tab": Case(post(TE.replace(b":", b"\t:"), body=CHUNKS), REFUSED),
    "chunks behind a NUL": Case(post(TE.replace(b":", b"\x00:"), body=CHUNKS), REFUSED),
    "chunks behind a bare LF": Case(post(b"X: a\n" + TE, body=CHUNKS), REFUSED),
    "chunks behind a bare LF, and a length": Case(post(b"X: a\n" + TE, LENGTH), REFUSED),
    "chunks behind a space, and a length": Case(post(TE.replace(b":", b" :"), LENGTH), REFUSED),
    "a coding with a vertical tab before it": Case(_coded(b" \x0bchunked"), REFUSED),
    "a coding with a vertical tab after it": Case(_coded(b" chunked\x0b"), REFUSED),
    "a coding with a NUL": Case(_coded(b" chunked\x00"), REFUSED),
    "a coding in quotes": Case(_coded(b' "chunked"'), UNKNOWN_CODING),
    "a coding with a parameter": Case(_coded(b" chunked;q=1"), UNKNOWN_CODING),
    "an unknown coding": Case(_coded(b" xchunked"), UNKNOWN_CODING),
    "identity": Case(_coded(b" identity", body=BODY), UNKNOWN_CODING),
    "identity and a length": Case(_coded(b" identity", LENGTH, body=BODY), UNKNOWN_CODING),
    "gzip": Case(_coded(b" gzip"), UNKNOWN_CODING),
    "gzip, chunked": Case(_coded(b" gzip, chunked"), UNKNOWN_CODING),
    "chunked, gzip": Case(_coded(b" chunked, gzip"), UNKNOWN_CODING),
    "chunked twice": Case(_coded(b" chunked, chunked"), UNKNOWN_CODING),
    "chunked and a comma": Case(_coded(b" chunked,"), EITHER),  # reach is 0: relaying it is a guess
    "two words": Case(_coded(b" chunked chunked"), UNKNOWN_CODING),
    "no coding": Case(_coded(b""), UNKNOWN_CODING),
    "no coding, and a length": Case(_coded(b"", LENGTH, body=BODY), UNKNOWN_CODING),
    "two coding headers": Case(post(TE, TE, body=CHUNKS), UNKNOWN_CODING),
    "two coding headers, one known": Case(post(b"Transfer-Encoding: identity", TE, body=CHUNKS), UNKNOWN_CODING),
    "a coding that is another header": Case(post(b"Transfer_Encoding: chunked", LENGTH), ROUTED),
    "TE is another header": Case(post(b"TE: chunked", LENGTH), ROUTED),
    "chunks to GET": Case(get(TE) + chunked(HIDDEN), expect(200, then=OK)),
    "chunks in HTTP/1.0": Case(post(TE, body=CHUNKS, version=b"1.0"), REFUSED),  # [6.1] faulty framing
    "chunks in a kept HTTP/1.0": Case(post(TE, b"Connection: keep-alive", body=CHUNKS, version=b"1.0"), REFUSED),
}


def _chunks(chunks: bytes) -> bytes:
    return post(TE, body=chunks)


def _sized(size: bytes) -> bytes:
    return _chunks(size + b"\r\n" + BODY + b"\r\n0\r\n\r\n")


def _trailer(trailer: bytes) -> bytes:
    return _chunks(CHUNKS[:-2] + trailer + b"\r\n")


CHUNK_LINES: Table = {
    "one chunk": Case(_chunks(CHUNKS), RELAYED),
    "a chunk for each byte": Case(_chunks(chunked(*(bytes([byte]) for byte in BODY))), RELAYED),
    "a size in capitals": Case(_sized(SIZE.upper()), RELAYED),
    "a size with zeros before it": Case(_sized(b"000" + SIZE), RELAYED),
    "a last chunk of many zeros": Case(_chunks(CHUNKS[:-5] + b"0000\r\n\r\n"), RELAYED),
    "an extension": Case(_sized(SIZE + b";a=b"), RELAYED),  # [7.1.1] unknown ones must be ignored
    "an extension without a value": Case(_sized(SIZE + b";a"), RELAYED),
    "an extension in quotes": Case(_sized(SIZE + b';a="b;c"'), RELAYED),
    "an extension of the last chunk": Case(_chunks(CHUNKS[:-5] + b"0;a=b\r\n\r\n"), RELAYED),
    "spaces before an extension": Case(_sized(SIZE + b" ; a = b"), AS_RELAYED),
    "an extension of 100 KB": Case(_sized(SIZE + b";" + b"a" * 100_000), TOO_MUCH),
    "an extension with a bare LF": Case(_sized(SIZE + b";\nx"), REFUSED),
    "an extension with a bare CR": Case(_sized(SIZE + b";\rx"), REFUSED),
    "an extension with a NUL": Case(_sized(SIZE + b";\x00"), REFUSED),
    "0x": Case(_sized(b"0x" + SIZE), REFUSED),
    "+": Case(_sized(b"+" + SIZE), REFUSED),
    "-": Case(_sized(b"-5"), REFUSED),
    "an underscore": Case(_sized(b"0_" + SIZE), REFUSED),
    "a space before the size": Case(_sized(b" " + SIZE), REFUSED),
    "a space after the size": Case(_sized(SIZE + b" "), REFUSED),
    "a tab after the size": Case(_sized(SIZE + b"\t"), REFUSED),
    "a size in other digits": Case(_sized("٤".encode()), REFUSED),
    "no size": Case(_sized(b""), REFUSED),
    "no size but an extension": Case(_sized(b";a"), REFUSED),
    "a size that is a word": Case(_sized(b"zz"), REFUSED),
    "a size over 64 bits": Case(_sized(b"1" + b"0" * 14 + SIZE), TOO_LARGE),
    "a size of a thousand digits": Case(_sized(b"F" * 1000), TOO_LARGE),
    "a size with a bare LF": Case(_chunks(SIZE + b"\n" + BODY + b"\r\n0\r\n\r\n"), REFUSED),
    "a size with a bare CR": Case(_chunks(SIZE + b"\r" + BODY + b"\r\n0\r\n\r\n"), REFUSED),
    "letters after data": Case(_chunks(SIZE + b"\r\n" + BODY + b"XX0\r\n\r\n"), REFUSED),
    "nothing after data": Case(_chunks(SIZE + b"\r\n" + BODY + b"0\r\n\r\n"), REFUSED),
    "a bare LF after data": Case(_chunks(SIZE + b"\r\n" + BODY + b"\n0\r\n\r\n"), REFUSED),
    "a bare CR after data": Case(_chunks(SIZE + b"\r\n" + BODY + b"\r0\r\n\r\n"), REFUSED),
    "data longer than its size": Case(_chunks(b"5\r\n" + BODY + b"\r\n0\r\n\r\n"), REFUSED),
    "the last chunk without an empty line": Case(_chunks(CHUNKS[:-2]), REFUSED),  # SECOND is no trailer
    "the last chunk with bare LFs": Case(_chunks(CHUNKS[:-5] + b"0\n\n"), REFUSED),
    "the last chunk and a bare LF": Case(_chunks(CHUNKS[:-2] + b"\n"), REFUSED),
    "chunks that hide a request": Case(_chunks(chunked(HIDDEN)), expect(400, then=OK)),
    "a trailer": Case(_trailer(b"X-Api-Key: " + SECRET + b"\r\n"), AS_RELAYED),  # [7.1.2] may be discarded
    "a trailer that frames": Case(_trailer(b"Content-Length: 5\r\n"), AS_RELAYED),
    "a trailer that names a host": Case(_trailer(b"Host: " + SECRET + b"\r\n"), AS_RELAYED),
    "a trailer without a colon": Case(_trailer(b"nonsense\r\n"), REFUSED),
    "a trailer with a space before the colon": Case(_trailer(b"X : a\r\n"), REFUSED),
    "a folded trailer": Case(_trailer(b"X: a\r\n b\r\n"), REFUSED),
    "a trailer with a bare LF": Case(_trailer(b"X: a\nY: b\r\n"), REFUSED),
    "a trailer with a NUL": Case(_trailer(b"X: \x00\r\n"), REFUSED),
    "a trailer of 100 KB": Case(_trailer(b"X: " + b"a" * 100_000 + b"\r\n"), TOO_MUCH),
}
