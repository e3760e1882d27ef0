"""Where a request goes: what two requests must have in common to share a connection."""

from typing import NamedTuple

import httpx

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Scheme, host, port, and the name that TLS asks for and checks."""

    scheme: str
    host: str
    port: int
    tls_name: str

    @classmethod
    def of(cls, request: httpx.Request) -> "Origin":
        """Take the origin from the URL; the extension ``sni_hostname`` overrides the name for TLS.

        Raises ``httpx.UnsupportedProtocol`` for URLs that are neither http nor https or have no host.
        """
        url = request.url
        scheme = url.scheme
        host = url.raw_host.decode("ascii")
        if scheme not in _DEFAULT_PORTS or not host:
            raise httpx.UnsupportedProtocol(
                f"a backend's URL begins with http:// or https:// and a host, not {scheme}:"
            )
        if scheme == "http":
            return cls(scheme, host, url.port or 80, "")
        return cls(scheme, host, url.port or 443, request.extensions.get("sni_hostname") or host.rstrip("."))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"
