import re
import time
from email.utils import parsedate_to_datetime

import httptools
import pytest

from herdgate.front import wire


class Parsed:
    """What a parser that is not ours reads."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.complete = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(data)
        self.status = parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


@pytest.mark.parametrize(("keep_alive", "connection"), [(True, b"keep-alive"), (False, b"close")])
def test_a_head_is_what_was_decided_with_date_and_connection(keep_alive: bool, connection: bytes) -> None:
    head = wire.head(200, {"content-type": "text/plain", "content-length": "0"}, keep_alive=keep_alive)
    parsed = Parsed(head)
    assert (parsed.status, parsed.complete) == (200, True)
    names = [name for name, _ in parsed.headers]
    assert names == [b"content-type", b"content-length", b"date", b"connection"]
    assert dict(parsed.headers)[b"connection"] == connection
    date = dict(parsed.headers)[b"date"].decode()
    assert date.endswith(" GMT")
    assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 5


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (404, b"HTTP/1.1 404 Not Found\r\n"),
        (418, b"HTTP/1.1 418 I'm a Teapot\r\n"),
        (499, b"HTTP/1.1 499 Unknown\r\n"),
    ],
)
def test_a_status_without_a_name_is_sent_all_the_same(status: int, line: bytes) -> None:
    assert wire.head(status, {}, keep_alive=True).startswith(line)


def test_some_replies_never_have_a_body() -> None:
    assert {204, 304} == wire.BODILESS


def test_bytes_that_are_no_text_come_through_unchanged() -> None:
    value = b"caf\xe9 \xc3\xa9".decode("utf-8", "surrogateescape")
    assert b"x: caf\xe9 \xc3\xa9\r\n" in wire.head(200, {"x": value}, keep_alive=True)


@pytest.mark.parametrize("parts", [[b"a"], [b"hello", b"x" * 100_000, b"\r\n0\r\n\r\n"], [b"", b"a", b""]])
def test_chunks_carry_the_very_bytes_and_empty_ones_do_not_end_the_body(parts: list[bytes]) -> None:
    head = wire.head(200, {"transfer-encoding": "chunked"}, keep_alive=True)
    sent = head + b"".join(map(wire.chunk, parts))
    assert not Parsed(sent).complete
    parsed = Parsed(sent + wire.LAST_CHUNK)
    assert parsed.complete
    assert parsed.body == b"".join(parts)


def test_the_same_decision_makes_the_same_bytes() -> None:
    def undated() -> bytes:
        return re.sub(rb"date: [^\r]*", b"", wire.head(403, {"a": "1", "b": "2"}, keep_alive=True))

    assert undated() == undated()
