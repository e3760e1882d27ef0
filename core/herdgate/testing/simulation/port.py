"""A TCP port that stays one's own while nobody listens on it, so that a stopped backend can come back on it."""

import ipaddress
import socket


class Port:
    """An address to listen on. Between `release` of a listener and the next `take`, connections are refused."""

    def __init__(self, host: str = "127.0.0.1", number: int = 0) -> None:
        """``number`` 0: the operating system chooses at the first `take`."""
        self.host = host
        self.number = number
        self._reserved: socket.socket | None = None

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback

    @property
    def location(self) -> str:
        """Host and port, as a URL has them."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - compared, not bound
        return f"[{host}]:{self.number}" if ":" in host else f"{host}:{self.number}"

    def take(self) -> socket.socket:
        """A bound socket to listen on; the caller closes it. Raises OSError if the port is not free."""
        sock, self._reserved = self._reserved or self._bound(), None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # over what is left of old connections
        return sock

    def reserve(self) -> None:
        """Hold the port without listening. The former listener must be closed."""
        self._reserved = self._bound()
        # Without this another socket with SO_REUSEADDR could be given the same port meanwhile.
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)

    def release(self) -> None:
        """Give up a reservation."""
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # Named, or asyncio leaves Nagle's algorithm on, and the second event of a stream comes 40 ms late.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind((self.host, self.number))
        except OSError:
            sock.close()
            raise
        self.number = sock.getsockname()[1]
        return sock
