"""Targets, methods and connection options that may mean more than they seem to, and what must become of each."""

from __future__ import annotations

from tests.stories.doors import BODY
from tests.stories.framing.case import (
    ANSWERED,
    CHUNKS,
    HIDDEN,
    HOST,
    LEFT,
    LENGTH,
    NOWHERE,
    OK,
    REFUSED,
    RELAYED,
    ROUTED,
    SECOND,
    SECRET,
    TE,
    Case,
    Expect,
    Table,
    expect,
    get,
    length,
    post,
)

_MAY_CLOSE = expect(200, then=OK)
_MISDIRECTED = expect({400, 403, 404, 421}, then=OK)
_CLOSED = expect(200)
_NO_SUCH_METHOD = expect({400, 405, 501}, then=OK)


def _at(path: bytes, expected: Expect = NOWHERE) -> Case:
    return Case(post(LENGTH, path=path), expected)


def _by(method: bytes, *fields: bytes, path: bytes = b"/api/version") -> bytes:
    return get(*fields, path=path).replace(b"GET", method, 1)


TARGETS: Table = {
    "a query": _at(b"/api/chat?model=other", ROUTED),
    "an empty query": _at(b"/api/chat?", ROUTED),
    "a query that looks like a path": _at(b"/api/chat?/../generate", ROUTED),
    "a fragment": _at(b"/api/chat#x"),  # [3.2] no part of a target
    "an encoded letter": _at(b"/api/%63hat"),
    "an encoded slash": _at(b"/api%2Fchat"),
    "an encoded slash at the end": _at(b"/api/chat%2f"),
    "an encoded backslash": _at(b"/api%5Cchat"),
    "a backslash": _at(b"/api\\chat"),
    "an encoded NUL": _at(b"/api/chat%00"),
    "an encoded line end": _at(b"/api/chat%0d%0aX:%20y"),
    "an encoded question mark": _at(b"/api/chat%3Fx"),
    "an encoded space": _at(b"/api/chat%20"),
    "half an escape": _at(b"/api/chat%2"),
    "an escape that is none": _at(b"/api/chat%zz"),
    "an overlong escape": _at(b"/api/%c0%ae%c0%ae/api/chat"),
    "escapes twice": _at(b"/api/%2563hat"),
    "two slashes": _at(b"/api//chat"),
    "two slashes at the beginning": _at(b"//api/chat"),
    "a slash at the end": _at(b"/api/chat/"),
    "a dot": _at(b"/api/./chat"),
    "two dots": _at(b"/api/x/../chat"),
    "encoded dots": _at(b"/api/x/%2e%2e/chat"),
    "dots out of a blob": _at(b"/api/blobs/../chat", expect({400, 403, 404}, then=OK)),
    "dots out of the root": _at(b"/../api/chat"),
    "a parameter": _at(b"/api/chat;x=1"),
    "a parameter in between": _at(b"/api;x/chat"),
    "capitals": _at(b"/API/chat"),
    "a path that is no ASCII": _at("/api/chät".encode(), REFUSED),
    "a byte over 127": _at(b"/api/chat\xff", REFUSED),
    "an encoded umlaut": _at(b"/api/ch%C3%A4t"),
    "a path that begins nowhere": _at(b"api/chat", REFUSED),
    "a broken address": _at(b"http://[", REFUSED),
    "this address": _at(b"http://localhost/api/chat", expect({200, 400, 404}, reach={0, 1}, then=OK)),  # [3.2.2]
    "another address": _at(b"http://evil.example/api/chat", _MISDIRECTED),
    "another scheme": _at(b"https://localhost/api/chat", expect({200, 400, 404, 421}, reach={0, 1}, then=OK)),
    "a file": _at(b"file:///api/chat", _MISDIRECTED),
    "an address with a user": _at(b"http://user@localhost/api/chat", _MISDIRECTED),
    "a backend's own address": _at(  # it is one of this machine, and answered here, not where it leads
        b"http://127.0.0.1:11434/api/chat", expect({200, 400, 404, 421}, reach={0, 1}, then=OK)
    ),
    "an authority": _at(b"localhost:80", REFUSED),
    "an asterisk": _at(b"*"),
    "an asterisk for OPTIONS": Case(_by(b"OPTIONS", path=b"*"), expect({200, 204, 400, 404}, then=OK)),
}

METHODS: Table = {
    "a tunnel": Case(_by(b"CONNECT", path=b"localhost:80"), expect({400, 405, 501})),
    "a tunnel to a path": Case(_by(b"CONNECT", path=b"/api/chat"), _NO_SUCH_METHOD),
    "a tunnel to another host": Case(_by(b"CONNECT", path=b"evil.example:443"), expect({400, 405, 501})),
    "TRACE": Case(_by(b"TRACE", b"X-Api-Key: " + SECRET), _NO_SUCH_METHOD),
    "TRACE with a body": Case(_by(b"TRACE", length(HIDDEN)) + HIDDEN, _NO_SUCH_METHOD),
    "an unknown method": Case(_by(b"FROB"), _NO_SUCH_METHOD),
    "an unknown method with a body": Case(_by(b"FROB", LENGTH, path=b"/api/chat") + BODY, _NO_SUCH_METHOD),
    "a method in small letters": Case(_by(b"get"), _NO_SUCH_METHOD),
    "another method in the headers": Case(post(LENGTH, b"X-HTTP-Method-Override: DELETE", path=b"/api/chat"), ROUTED),
    "PUT": Case(_by(b"PUT", LENGTH, path=b"/api/chat") + BODY, _NO_SUCH_METHOD),
}

CONNECTIONS: Table = {
    "close": Case(post(LENGTH, b"Connection: close"), expect(200, reach=1)),
    "Close": Case(post(LENGTH, b"Connection: Close"), expect(200, reach=1)),
    "close among others": Case(post(LENGTH, b"Connection: x, close"), expect(200, reach=1)),
    "close in a second header": Case(post(LENGTH, b"Connection: x", b"Connection: close"), expect(200, reach=1)),
    "keep-alive": Case(post(LENGTH, b"Connection: keep-alive"), ROUTED),
    "a length as hop-by-hop": Case(post(LENGTH, b"Connection: content-length"), RELAYED),
    "the Host as hop-by-hop": Case(post(LENGTH, b"Connection: host"), RELAYED),
    "the coding as hop-by-hop": Case(
        post(TE, b"Connection: transfer-encoding", body=CHUNKS), expect({200, 400}, reach={0, 1}, then=OK)
    ),
    "a header of a proxy": Case(post(LENGTH, b"Proxy-Connection: close", b"Keep-Alive: timeout=1"), ROUTED),
    "an upgrade to HTTP/2": Case(
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"), _MAY_CLOSE
    ),
    "an upgrade to a websocket": Case(
        get(
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Version: 13",
        ),
        _MAY_CLOSE,
    ),
    "an upgrade with a body": Case(post(LENGTH, b"Connection: Upgrade", b"Upgrade: websocket"), RELAYED),
    "Expect": Case(post(LENGTH, b"Expect: 100-continue"), ROUTED),
    "Expect with chunks": Case(post(TE, b"Expect: 100-continue", body=CHUNKS), expect(200, reach=1, then=OK)),
    "Expect in capitals": Case(post(LENGTH, b"Expect: 100-Continue"), ROUTED),
    "Expect without a body": Case(get(b"Expect: 100-continue"), ANSWERED),
    "Expect and a refusal": Case(post(LENGTH, b"Expect: 100-continue", path=b"/api/pull"), expect(403, then=OK)),
    "Expect of something else": Case(post(LENGTH, b"Expect: miracles"), expect({200, 417}, reach={0, 1}, then=OK)),
    "two expectations": Case(
        post(LENGTH, b"Expect: 100-continue", b"Expect: miracles"), expect({200, 417}, reach={0, 1}, then=OK)
    ),
    "HTTP/1.0": Case(post(LENGTH, version=b"1.0"), expect(200, reach=1)),
    "HTTP/1.0 without a Host": Case(get(host=b"", version=b"1.0"), _CLOSED),
    "HTTP/1.0 with two Hosts": Case(get(HOST, version=b"1.0"), REFUSED),
    "HTTP/1.0, kept": Case(get(b"Connection: keep-alive", version=b"1.0"), expect(200, then=OK)),
    "Expect in HTTP/1.0": Case(post(LENGTH, b"Expect: 100-continue", version=b"1.0"), expect(200, reach=1)),
    "a pipeline": Case(get() * 5, expect(200, 200, 200, 200, 200, then=OK, must=True)),
    "a pipeline of chats": Case(post(LENGTH) * 3, expect(200, 200, 200, reach=3, then=OK, must=True)),
    "a pipeline of denials": Case(
        post(LENGTH, path=b"/api/pull") + get(path=b"/v1/models/none") + get(),
        expect(403, 403, 200, then=OK, must=True),
    ),
    "a pipeline with a fault": Case(get() + get(b"X : a") + get(), expect(200, 400)),
    "a pipeline with an end": Case(get() + get(b"Connection: close") + get(), expect(200, 200)),
    "a pipeline with an empty line": Case(  # [2.2]
        post(LENGTH) + b"\r\n" + get(), expect(200, 200, reach=1, then=OK, must=True)
    ),
    "a pipeline of HEADs": Case(_by(b"HEAD") * 3, expect(200, 200, 200, then=OK, must=True), bodiless=True),
}

UNFINISHED: Table = {
    "nothing at all": Case(b"", expect(400, silent=True), leaves=True),
    "an empty line": Case(b"\r\n", LEFT, leaves=True),
    "half a request line": Case(b"POST /api/ch", LEFT, leaves=True),
    "half a head": Case(b"POST /api/chat HTTP/1.1\r\n" + HOST, LEFT, leaves=True),
    "half a line end": Case(b"POST /api/chat HTTP/1.1\r\n" + HOST + LENGTH + b"\r", LEFT, leaves=True),
    "a head without its body": Case(post(LENGTH, body=b""), LEFT, leaves=True),
    "half a body": Case(post(LENGTH, body=BODY[:-1]), LEFT, leaves=True),
    "no chunk": Case(post(TE, body=b""), LEFT, leaves=True),
    "half a chunk": Case(post(TE, body=CHUNKS[:20]), LEFT, leaves=True),
    "no last chunk": Case(post(TE, body=CHUNKS[:-5]), LEFT, leaves=True),
    "half the last chunk": Case(post(TE, body=CHUNKS[:-2]), LEFT, leaves=True),
    "half a trailer": Case(post(TE, body=CHUNKS[:-2] + b"X: a\r\n"), LEFT, leaves=True),
    "half of the second request": Case(get() + SECOND[:-1], expect(200), leaves=True),
}
