"""What an operator writes that goes onto the wire: addresses, tokens, headers.

Every check raises `ValueError` with a text that never repeats the value, because it may be or hold a secret.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_PATH = re.compile(r"[\w.~!$&'()*+,;=:%/-]*", re.ASCII)
_TOKEN = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
# They frame the message or describe its bytes: a fixed value would make the request a lie.
_NOT_SETTABLE = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NO_HOST = "it has no valid host and port after :// (write an international name as xn--…)"


def check_base_url(text: str) -> str:
    """Return a backend's address in its one form: scheme and host in lower case, no slash at the end."""
    if "@" in text:
        raise ValueError("it must not hold a user or password: put credentials into auth_token or headers")
    if "?" in text or "#" in text:
        raise ValueError("it must not have a query (?) or a fragment (#)")
    url, host, port = _split_url(text.strip())
    if url.scheme not in {"http", "https"}:
        raise ValueError("it must start with http:// or https://")
    if not is_host(host):
        raise ValueError(_NO_HOST)
    if not _PATH.fullmatch(url.path) or {".", ".."} & set(url.path.split("/")):
        raise ValueError("its path has characters or dot segments that a path must not have")
    return f"{url.scheme}://{host.lower()}{port}{url.path.rstrip('/')}"


def _split_url(text: str) -> tuple[SplitResult, str, str]:
    """Return the URL's parts, its host as written, and `:port` or nothing."""
    if re.search(r"[\s\x00-\x1f]", text):  # urlsplit would silently drop some of these
        raise ValueError("it must not have white space in it")
    try:
        url = urlsplit(text)
        number = url.port
    except ValueError:  # its message repeats parts of the address
        raise ValueError("it is not a valid URL: check the port and the brackets") from None
    if number == 0:
        raise ValueError(_NO_HOST)
    host = url.netloc if number is None else url.netloc.rpartition(":")[0]
    return url, host, "" if number is None else f":{number}"


def is_host(text: str) -> bool:
    """Whether this is a host as it may stand in a URL: a name, an IPv4 address, or an IPv6 address in brackets."""
    try:
        if text.startswith("[") and text.endswith("]"):
            ipaddress.IPv6Address(text[1:-1])
            return "%" not in text  # a zone has no place in a URL
        if re.fullmatch(r"[\d.]+", text):
            ipaddress.IPv4Address(text)
            return text.isascii()
    except ValueError:
        return False
    return len(text) <= 253 and _NAME.fullmatch(text) is not None


def check_token(value: SecretStr) -> SecretStr:
    """Return a token that can be sent as `Authorization: Bearer TOKEN`, white space around it removed."""
    token = value.get_secret_value().strip()
    if token.lower().startswith("bearer "):
        raise ValueError('leave out the word "Bearer": it is added when the token is sent')
    if not _TOKEN.fullmatch(token):
        raise ValueError("a token has only visible ASCII characters and no spaces")
    return SecretStr(token)


def check_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """Return headers that may be sent with every request as they are."""
    seen: set[str] = set()
    for name, value in headers.items():
        folded = name.lower()
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError("a header name has only letters, digits and -, no colon and no space")
        if folded == "host":
            raise ValueError("the Host header is set with host_header")
        if folded in _NOT_SETTABLE:
            raise ValueError(f"the header {name} belongs to each request and cannot be fixed here")
        if folded in seen:
            raise ValueError(f"the header {name} is given twice")
        if not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise ValueError(f"the value of {name} must be visible ASCII, no line break, no space at its ends")
        seen.add(folded)
    return headers


def check_host_header(text: str) -> str:
    """Return a value for the `Host` header: a host, with or without a port."""
    host, _, port = re.fullmatch(r"(.*?)(:(\d{1,5}))?", text.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
    if not is_host(host) or (port and not 0 < int(port) < 65536):
        raise ValueError("this is not a host name, with or without a port")
    return text.strip()
