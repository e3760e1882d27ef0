"""One backend as something that can be asked: its address, credentials and deadlines around a transport.

This is the border where errors of httpx become failures; nothing beyond it catches an httpx exception.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable
from functools import lru_cache

import httpx

from herdgate.backend import Backend, BackendSettings
from herdgate.descriptors import ran_out
from herdgate.exchange import Head, UpstreamRequest
from herdgate.failure import Failure, Kind, Phase
from herdgate.sendable import METHOD, PATH
from herdgate.upstream.bounded import BoundedTransport
from herdgate.upstream.origin import Origin
from herdgate.upstream.request import OutgoingRequest, encode_fields
from herdgate.upstream.stream import BodyStream
from herdgate.upstream.transport import UpstreamTransport

USER_AGENT = "herdgate"


class UpstreamFailed(Exception):  # noqa: N818 - it carries a Failure, which is the word of the field here
    """An exchange with a backend failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


def failure_of(error: httpx.HTTPError | httpx.StreamError | httpx.InvalidURL, phase: Phase) -> Failure:
    """Translate an exception of httpx; `phase` is what the caller knows, unless the exception knows better."""
    said = str(error) or type(error).__name__
    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return Failure(Kind.TIMEOUT, Phase.CONNECT, f"no connection in time: {said}")
        case httpx.ConnectError() if ran_out(error.__cause__):  # which says nothing about the backend
            return Failure(Kind.SKIPPED, Phase.CONNECT, f"no connection: {said}")
        case httpx.ConnectError() | httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return Failure(Kind.UNREACHABLE, Phase.CONNECT, f"no connection: {said}")
        case httpx.LocalProtocolError():
            return Failure(Kind.PLUGIN, Phase.CONNECT, f"not sent: {said}")
        case httpx.TimeoutException():
            return Failure(Kind.TIMEOUT, phase, f"silent for too long: {said}")
        case _:
            return Failure(Kind.BROKEN, phase, f"connection broke: {said}")


class UpstreamReply:
    """A backend's reply whose headers have come. `more` gives the body; `aclose` breaks off what is still to come."""

    __slots__ = ("_pulled", "_stream", "head", "pushing")

    def __init__(self, head: Head, stream: httpx.AsyncByteStream) -> None:
        self.head = head
        self.pushing = stream if isinstance(stream, BodyStream) else None
        """The body as what can push into a sink what was not read yet, if it can."""
        self._stream = stream
        self._pulled: AsyncIterator[bytes] | None = None

    def arrived(self) -> bytes:
        """What has come since the last time, nothing if `more` would have to wait for it."""
        return b"" if self.pushing is None else self.pushing.arrived()

    def more(self) -> Coroutine[None, None, bytes]:
        """What has come since the last time; empty once that was all."""
        return self._pull() if self.pushing is None else self.pushing.more()

    async def _pull(self) -> bytes:
        if self._pulled is None:
            self._pulled = aiter(self._stream)
        async for data in self._pulled:
            if data:
                return data
        return b""

    async def whole(self) -> bytes:
        """All that has not been read yet."""
        parts = []
        while data := await self.more():
            parts.append(data)
        return b"".join(parts)

    @property
    def complete(self) -> bool:
        """Whether all of the body has come, read or not; False where the transport cannot tell."""
        return self.pushing is not None and self.pushing.complete

    @property
    def delimited(self) -> bool:
        """Whether the body itself tells where it ends; without that a broken connection looks like the end."""
        headers = self.head.headers
        return "transfer-encoding" in headers or "content-length" in headers

    def aclose(self) -> Coroutine[None, None, None]:
        """Have done with the reply; a backend that is still sending sees the connection end."""
        return self._stream.aclose()

    def close(self) -> Coroutine[None, None, None] | None:
        """The same; what comes back is to be awaited, if the transport is one that makes its callers wait."""
        if self.pushing is None:
            return self._stream.aclose()
        self.pushing.close()
        return None


class Upstream:
    """One backend, ready to be asked."""

    def __init__(self, settings: BackendSettings, transport: httpx.AsyncBaseTransport) -> None:
        self.settings = settings
        self.backend: Backend = settings.view()
        self.transport = transport
        self._apart: UpstreamTransport | None = None
        self._base = httpx.URL(settings.base_url)
        self._origin = Origin.of(httpx.Request("GET", self._base))
        self._own_headers = _own_headers(settings)
        self._own_names = frozenset(name for name, _ in self._own_headers)
        self._own_lines = encode_fields(_encoded(self._own_headers))
        # The same few header sets come again and again; what was checked once need not be checked for every request.
        self._lines_of = lru_cache(maxsize=512)(self._lines)
        self._beginning_of = lru_cache(maxsize=64)(self._beginning)
        self._timeouts = {
            "connect": settings.connect_timeout,
            "read": None,
            "write": settings.idle_timeout,
            "pool": settings.connect_timeout,
        }

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Send a request and wait for the reply's headers. The caller bounds the wait and closes the reply.

        Raises UpstreamFailed.
        """
        try:
            if isinstance(self.transport, UpstreamTransport):
                head, stream = await self.transport.send(self._origin, self._outgoing(request), self._timeouts)
                return UpstreamReply(Head(head.status, head.headers), stream)
            response = await self.transport.handle_async_request(self._httpx_request(request))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UpstreamFailed(failure_of(error, Phase.SENT)) from error
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - what async transports give
        return UpstreamReply(Head(response.status_code, response.headers), response.stream)

    def _outgoing(self, request: UpstreamRequest) -> OutgoingRequest:
        body, method = request.body, request.method
        size = len(body)
        length = b"content-length: %d\r\n\r\n" % size
        head = self._beginning_of(method, request.path) + self._lines_of(request.headers) + length
        return OutgoingRequest(head, body, size, method != "HEAD")

    def _beginning(self, method: str, path: str) -> bytes:
        """The request line and the own headers. Plugins may have changed what stands in the line."""
        if not METHOD.fullmatch(method) or not PATH.fullmatch(path):
            raise httpx.LocalProtocolError("the method or the path has characters that HTTP does not allow")
        line = b"%b %b%b HTTP/1.1\r\n" % (method.encode(), self._base.raw_path.rstrip(b"/"), path.encode())
        return line + self._own_lines

    def _lines(self, headers: tuple[tuple[str, str], ...]) -> bytes:
        return encode_fields(_encoded(self._passed(headers)))

    def _httpx_request(self, request: UpstreamRequest) -> httpx.Request:
        """The same for any other transport.

        Given to the transport as it is: `AsyncClient.send` would merge cookies of one user's reply into another's
        request.
        """
        length = ("content-length", str(len(request.body)))
        return httpx.Request(
            request.method,
            httpx.URL(self.settings.base_url + request.path),
            headers=[*self._own_headers, *self._passed(request.headers), length],
            content=request.body,
            extensions={"timeout": self._timeouts},
        )

    def _passed(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """What goes on of a request's headers: nothing that the operator has set for this backend."""
        passed = [pair for pair in headers if pair[0] not in self._own_names and pair[0] not in _FRAMING]
        if "user-agent" not in self._own_names and not any(name == "user-agent" for name, _ in passed):
            passed.append(("user-agent", USER_AGENT))
        return passed

    def client(self, timeout: float, *, apart: bool = False) -> httpx.AsyncClient:
        """An ordinary client of this backend for small questions; paths are relative to its base URL.

        It shares the connections, whether it is closed or not; `apart` it uses a new one for each question. An answer
        of more than 32 MiB is an `httpx.ReadError`.
        """
        transport = self.transport
        if apart and isinstance(transport, UpstreamTransport):
            transport = self._apart = self._apart or transport.apart()
        return httpx.AsyncClient(
            base_url=self.settings.base_url,
            headers=[("user-agent", USER_AGENT), *self._own_headers],
            timeout=httpx.Timeout(timeout, connect=min(timeout, self.settings.connect_timeout)),
            transport=BoundedTransport(transport),
            trust_env=False,
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        """Close idle connections and break those in use."""
        await self.transport.aclose()
        if self._apart is not None:
            await self._apart.aclose()


_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer"})
"""What says how a request is framed is decided here, for each attempt anew."""


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")) for name, value in headers
    ]


def _own_headers(settings: BackendSettings) -> list[tuple[str, str]]:
    """What every request to this backend carries, whoever sends it."""
    own = {"accept-encoding": "identity"}
    own.update((name.lower(), value.get_secret_value()) for name, value in settings.headers.items())
    if settings.auth_token is not None:
        own["authorization"] = f"Bearer {settings.auth_token.get_secret_value()}"
    host = settings.host_header or httpx.URL(settings.base_url).netloc.decode("ascii")
    return [("host", host), *own.items()]
