"""One backend as something that can be asked: its address, credentials and deadlines around a transport.

This is the border where errors of httpx become failures; nothing beyond it catches an httpx exception.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import httpx

from herdgate.backend import Backend, BackendSettings
from herdgate.exchange import UpstreamRequest
from herdgate.failure import Failure, Kind, Phase
from herdgate.upstream.stream import BodyStream

USER_AGENT = "herdgate"


class UpstreamFailed(Exception):  # noqa: N818 - it carries a Failure, which is the word of the field here
    """An exchange with a backend failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


def failure_of(error: httpx.HTTPError | httpx.InvalidURL, phase: Phase) -> Failure:
    """Translate an exception of httpx; `phase` is what the caller knows, unless the exception knows better."""
    said = str(error) or type(error).__name__
    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return Failure(Kind.TIMEOUT, Phase.CONNECT, f"no connection in time: {said}")
        case httpx.ConnectError() | httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return Failure(Kind.UNREACHABLE, Phase.CONNECT, f"no connection: {said}")
        case httpx.TimeoutException():
            return Failure(Kind.TIMEOUT, phase, f"silent for too long: {said}")
        case _:
            return Failure(Kind.BROKEN, phase, f"connection broke: {said}")


class ReplyBody:
    """The body of a backend's reply, from whatever transport it comes; an iterator that may be left and taken up
    again.
    """

    __slots__ = ("_pulled", "_stream")

    def __init__(self, response: httpx.Response) -> None:
        self._stream = response.stream
        self._pulled: AsyncIterator[bytes] = aiter(response.stream)  # type: ignore[arg-type]  # async transports only

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pulled

    async def pushed(self) -> BodyStream | None:
        """The stream itself, for what is still to come, if it can push into a sink. Pulling has then ended."""
        if not isinstance(self._stream, BodyStream):
            return None
        if isinstance(self._pulled, AsyncGenerator):
            await self._pulled.aclose()
        return self._stream


class Upstream:
    """One backend, ready to be asked."""

    def __init__(self, settings: BackendSettings, transport: httpx.AsyncBaseTransport) -> None:
        self.settings = settings
        self.backend: Backend = settings.view()
        self.transport = transport
        self._urls: dict[str, httpx.URL] = {}
        self._own_headers = _own_headers(settings)
        self._own_names = frozenset(name for name, _ in self._own_headers)
        self._timeouts = {
            "connect": settings.connect_timeout,
            "read": None,
            "write": settings.idle_timeout,
            "pool": settings.connect_timeout,
        }

    async def send(self, request: UpstreamRequest) -> httpx.Response:
        """Send a request and wait for the reply's headers. The caller bounds the wait and closes the response.

        Built as `httpx.Request` and given to the transport as it is: `AsyncClient.send` would merge cookies of one
        user's reply into another user's request. Raises UpstreamFailed.
        """
        headers = [pair for pair in request.headers if pair[0] not in self._own_names]
        outgoing = httpx.Request(
            request.method,
            self._url(request.path),
            headers=[*self._own_headers, *headers, ("content-length", str(len(request.body)))],
            content=request.body,
            extensions={"timeout": self._timeouts},
        )
        try:
            return await self.transport.handle_async_request(outgoing)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UpstreamFailed(failure_of(error, Phase.SENT)) from error

    def client(self, timeout: float) -> httpx.AsyncClient:
        """An ordinary client of this backend for small questions; paths are relative to its base URL.

        It shares the transport: do not close it, or use it as a context manager.
        """
        return httpx.AsyncClient(
            base_url=self.settings.base_url,
            headers=self._own_headers,
            timeout=httpx.Timeout(timeout, connect=min(timeout, self.settings.connect_timeout)),
            transport=self.transport,
            trust_env=False,
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        """Close idle connections and break those in use."""
        await self.transport.aclose()

    def _url(self, path: str) -> httpx.URL:
        url = self._urls.get(path)
        if url is None:  # paths come from the table of endpoints, so there are only a few
            url = self._urls[path] = httpx.URL(self.settings.base_url + path)
        return url


def _own_headers(settings: BackendSettings) -> list[tuple[str, str]]:
    """What every request to this backend carries, whoever sends it."""
    own = {"user-agent": USER_AGENT, "accept-encoding": "identity"}
    own.update((name.lower(), value.get_secret_value()) for name, value in settings.headers.items())
    if settings.auth_token is not None:
        own["authorization"] = f"Bearer {settings.auth_token.get_secret_value()}"
    host = settings.host_header or httpx.URL(settings.base_url).netloc.decode("ascii")
    return [("host", host), *own.items()]
