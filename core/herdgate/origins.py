"""Which `Host` and `Origin` are believed when no key protects the gateway, and what CORS answers.

A web page must not reach a gateway on its visitor's machine by DNS rebinding or a cross-site request. The rules are
those of Ollama: its accepted hosts on a loopback listener, its default origins.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from functools import lru_cache

HOST_REFUSED = "this Host is not allowed without an API key"
ORIGIN_REFUSED = "this Origin is not allowed without an API key"

_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")
_CORS_METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_CORS_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,X-Request-Id,X-Api-Key,Anthropic-Version,Anthropic-Beta,OpenAI-Beta,"
    "x-stainless-lang,x-stainless-package-version,x-stainless-os,x-stainless-arch,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-async,x-stainless-helper-method,x-stainless-poll-helper,"
    "x-stainless-custom-poll-interval,x-stainless-timeout"
)
_CORS_EXPOSED = "X-Request-Id,Retry-After"
_CORS_MAX_AGE = "43200"


class OriginRules:
    """`allowed_origins` and `allowed_hosts` may hold `*` as a wildcard inside an entry."""

    def __init__(self, allowed_origins: Sequence[str], allowed_hosts: Sequence[str]) -> None:
        self._origins = _matcher(allowed_origins)
        self._hosts = _matcher(allowed_hosts)
        self._own_name = socket.gethostname().lower()
        # The same few hosts and origins come with every request.
        self.problem = lru_cache(maxsize=1024)(self._problem)

    def _problem(self, *, host: str | None, origin: str | None) -> str | None:
        """Why a caller without a key is refused; None if the request may have come from here."""
        if not self._host_allowed(host):
            return HOST_REFUSED
        if origin is not None and not self.origin_allowed(origin, host):
            return ORIGIN_REFUSED
        return None

    def cors(self, *, host: str | None, origin: str | None) -> Mapping[str, str]:
        """Headers for a reply to a browser; none if the request named no origin, or one that may not read it."""
        if origin is None or not self.origin_allowed(origin, host):
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": _CORS_EXPOSED,
            "vary": "Origin",
        }

    def preflight(self, *, host: str | None, origin: str | None) -> Mapping[str, str]:
        """Headers for the reply to an OPTIONS request."""
        shared = self.cors(host=host, origin=origin)
        if not shared:
            return {}
        return {
            **shared,
            "access-control-allow-methods": _CORS_METHODS,
            "access-control-allow-headers": _CORS_HEADERS,
            "access-control-max-age": _CORS_MAX_AGE,
        }

    def origin_allowed(self, origin: str, host: str | None) -> bool:
        """Same origin as `Host`, or on the list."""
        scheme, _, place = origin.lower().partition("://")
        if host and scheme in {"http", "https"} and place == host.lower():
            return True
        return self._origins.fullmatch(origin) is not None

    def _host_allowed(self, host: str | None) -> bool:
        name = _without_port(host or "").lower().rstrip(".")
        if name in {"", "localhost", self._own_name} or name.endswith(_LOCAL_SUFFIXES):
            return True
        if self._hosts.fullmatch(name):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or address.is_private or address.is_unspecified


def _matcher(allowed: Sequence[str]) -> re.Pattern[str]:
    """Matches what one of these entries allows; `*` stands for any visible characters."""
    entries = (re.escape(entry).replace(r"\*", "[!-~]*") for entry in allowed)
    return re.compile("|".join(entries) or "(?!)", re.IGNORECASE | re.ASCII)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and (port.isdigit() or not port) else host
