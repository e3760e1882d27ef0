"""The same bytes have one outcome, however they are cut, and none that another parser would not share."""

import itertools
from typing import NamedTuple

import httptools
import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from herdgate.upstream.parser import DEFAULT_LIMITS, ResponseParser

from .test_parser import MALFORMED, WELL_FORMED


class Outcome(NamedTuple):
    """What was read of a response."""

    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes
    complete: bool
    surplus: bool


def ours(pieces: list[bytes]) -> Outcome | None:
    """None: refused, or there is no head yet."""
    parser = ResponseParser(limits=DEFAULT_LIMITS)
    try:
        body = b"".join([parser.feed(piece) for piece in pieces])
    except httpx.RemoteProtocolError:
        return None
    head = parser.head
    return None if head is None else Outcome(head.status, head.raw, body, parser.complete, parser.surplus)


class Llhttp:
    """A parser of other people, one response long."""

    def __init__(self) -> None:
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.in_head = self.complete = False
        self._parser = httptools.HttpResponseParser(self)

    def read(self, data: bytes) -> Outcome | None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            return None
        return Outcome(self.status, self.fields, self.body, self.complete, surplus=False)

    def on_message_begin(self) -> None:
        self.fields, self.in_head, self.complete = [], True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            self.fields.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.in_head, self.status = False, self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


# What real servers send

_names = st.sampled_from([b"Date", b"X-A", b"x-a", b"Server", b"Set-Cookie", b"!#$%&'*+-.^_`|~", b"Connection"])
_values = st.sampled_from([b"", b"a", b"a: b", b"caf\xc3\xa9 \xff", b"a\tb", b"keep-alive", b'"', b"\x80\xa0\x85"])
_spaces = st.sampled_from([b"", b" ", b"\t", b" \t "])
_fields = st.builds(lambda *parts: b"%b:%b%b%b\r\n" % parts, _names, _spaces, _values, _spaces)
_reasons = st.sampled_from([b" OK", b"", b" ", b" Not  Found", b" \xc3\x9cbel", b" a\tb"])
_interims = st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\n"])
_sizes = st.sampled_from([b"%x", b"%X", b"0%x", b"0000%X", b"%x;a", b'%x;a=b;c="d\\" e"'])
_parts = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"x" * 1023, b"x" * 1024, b'{"done":true}\n']),
)
_ends = st.sampled_from([b"0\r\n\r\n", b"000\r\n\r\n", b"0;a\r\n\r\n", b"0\r\nX-T: a\r\ny:\r\n\r\n"])


@st.composite
def _framed(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A field that frames a body, and that body as it is sent."""
    parts = draw(st.lists(_parts, max_size=12))
    way = draw(st.sampled_from(["length", "chunks", "close"]))
    body = b"".join(parts)
    if way == "length":
        return b"Content-Length: %d\r\n" % len(body), body
    if way == "close":
        return b"", body
    chunks = [b"%b\r\n%b\r\n" % (draw(_sizes) % len(part), part) for part in parts]
    return draw(st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:Chunked \r\n"])), b"".join(
        [*chunks, draw(_ends)]
    )


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    framing, body = draw(_framed())
    status = draw(st.sampled_from([b"200", b"204", b"304", b"404", b"599", b"999"]))
    if status in (b"204", b"304"):
        framing, body = b"", b""
    fields = draw(st.permutations([framing, *draw(st.lists(_fields, max_size=5))]))
    line = b"HTTP/1.1 %b%b\r\n" % (status, draw(_reasons))
    return draw(_interims) + line + b"".join(fields) + b"\r\n" + body


# and what they do not

_odd = st.sampled_from(
    [
        *[b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"0", b"1", b"f", b";", b"\xff", b"\r\n\r\n"],
        *[b"A: b\r\n", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"],
    ]
)
_corpus = st.sampled_from([*[raw for raw, _ in WELL_FORMED.values()], *MALFORMED.values()])


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A response in which a few bytes were put in, left out or replaced."""
    raw = draw(responses() | _corpus)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(_odd) + raw[at + draw(st.sampled_from([0, 0, 1, 2])) :]
    return raw


@st.composite
def cuts(draw: st.DrawFn, raws: st.SearchStrategy[bytes]) -> list[bytes]:
    raw = draw(raws)
    if draw(st.booleans()) and len(raw) < 200:
        return [raw[at : at + 1] for at in range(len(raw))]
    places = draw(st.lists(st.integers(0, len(raw)), max_size=8))
    edges = sorted({0, len(raw), *places})
    return [raw[start:end] for start, end in itertools.pairwise(edges)]


@settings(max_examples=500)
@given(pieces=cuts(broken()))
def test_where_the_bytes_are_cut_does_not_matter(pieces: list[bytes]) -> None:
    assert ours(pieces) == ours([b"".join(pieces)])


@settings(max_examples=500)
@given(raw=responses())
def test_what_real_servers_send_is_read_as_another_parser_reads_it(raw: bytes) -> None:
    read = ours([raw])
    assert read is not None
    assert read == Llhttp().read(raw)


@settings(max_examples=1000)
@given(raw=broken())
def test_nothing_is_accepted_that_another_parser_refuses_or_reads_otherwise(raw: bytes) -> None:
    read = ours([raw])
    if read is not None and not read.surplus:
        assert read == Llhttp().read(raw)
