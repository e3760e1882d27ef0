"""Who may call without a key from a browser: Ollama's rules (0.33), as they were found by trying."""

import socket

import pytest

from herdgate.config import OLLAMA_ORIGINS
from herdgate.origins import HOST_REFUSED, ORIGIN_REFUSED, OriginRules

OLLAMAS = OriginRules(OLLAMA_ORIGINS, ())


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "localhost",
        "localhost:11435",
        "LOCALHOST",
        "localhost.",
        "app.localhost",
        "printer.local",
        "gw.internal:8080",
        "127.0.0.1",
        "127.0.0.1:11435",
        "127.8.8.8",
        "0.0.0.0:11435",
        "10.1.2.3",
        "172.16.0.1:80",
        "192.168.1.1",
        "[::1]:11435",
        "[fd00::1]:80",
        socket.gethostname(),
        f"{socket.gethostname().upper()}:11435",
    ],
)
def test_a_host_of_this_machine_or_network_is_believed(host: str | None) -> None:
    assert OLLAMAS.problem(host=host, origin=None) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "evil.example.com:11435",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "8.8.8.8",
        "[2001:4860:4860::8888]:80",
        "localhost:80:80",
        "local",
        "xlocalhost",
        "localhost/x",
        "user@localhost",
        "\u2460.0.0.1",
    ],
)
def test_a_host_that_a_web_page_could_have_rebound_is_refused(host: str) -> None:
    assert OLLAMAS.problem(host=host, origin=None) == HOST_REFUSED


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost:3000",
        "HTTP://LOCALHOST:3000",
        "http://127.0.0.1:8080",
        "https://0.0.0.0",
        "app://obsidian.md",
        "file://",
        "tauri://localhost",
        "vscode-webview://1abc",
        "vscode-file://vscode-app",
        "http://10.0.0.7:11435",  # the gateway's own pages: same as Host
        "https://10.0.0.7:11435",
    ],
)
def test_an_origin_that_ollama_allows_is_allowed(origin: str) -> None:
    assert OLLAMAS.problem(host="10.0.0.7:11435", origin=origin) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example.com",
        "https://localhost.example.com",
        "http://localhostx:80",
        "chrome-extension://abcdef",
        "10.0.0.7:11435",
        "http://10.0.0.7",
        "http://10.0.0.7:11435/",
        "ftp://10.0.0.7:11435",
        "http://[",
        "http://localhost:1\r\nset-cookie: x",
        "http://localhost:1\nx",
        "http://localhost:1 x",
    ],
)
def test_any_other_origin_is_refused(origin: str) -> None:
    assert OLLAMAS.problem(host="10.0.0.7:11435", origin=origin) == ORIGIN_REFUSED
    assert OLLAMAS.cors(host="10.0.0.7:11435", origin=origin) == {}
    assert OLLAMAS.preflight(host="10.0.0.7:11435", origin=origin) == {}


def test_a_request_without_origin_gets_no_cors_headers() -> None:
    assert OLLAMAS.cors(host="localhost", origin=None) == {}


def test_an_origin_equal_to_an_absent_host_is_not_the_same_origin() -> None:
    assert not OLLAMAS.origin_allowed("http://", "")
    assert not OLLAMAS.origin_allowed("http://", None)


def test_cors_names_the_very_origin_and_keeps_caches_apart() -> None:
    headers = OLLAMAS.cors(host="gw", origin="http://localhost:3000")
    assert headers["access-control-allow-origin"] == "http://localhost:3000"
    assert headers["vary"] == "Origin"
    assert "X-Request-Id" in headers["access-control-expose-headers"]


def test_a_preflight_allows_what_clients_in_browsers_send() -> None:
    headers = OLLAMAS.preflight(host="gw", origin="http://localhost:3000")
    assert headers["access-control-allow-methods"] == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    allowed = {name.lower() for name in headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type", "x-api-key", "anthropic-version", "x-stainless-os"} <= allowed
    assert headers["access-control-max-age"] == "43200"
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        ("*", "https://anything.example", True),
        ("*", "null", True),
        ("https://*.example.com", "https://chat.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://chat.example.com.evil.org", False),
        ("https://chat.example.com", "https://CHAT.example.com", True),
        ("https://chat.example.com", "https://chatxexample.com", False),
        ("http://[::1]:3000", "http://[::1]:3000", True),
        ("http://[::1]:*", "http://[::1]:8080", True),
        ("http://a.example", "http://localhost", False),
    ],
)
def test_the_operators_list_takes_the_place_of_ollamas(allowed: str, origin: str, expected: bool) -> None:
    assert OriginRules([allowed], []).origin_allowed(origin, "gw") is expected


@pytest.mark.parametrize(
    ("allowed", "host", "expected"),
    [
        ("gateway.example.com", "gateway.example.com:11435", None),
        ("gateway.example.com", "GATEWAY.example.com", None),
        ("gateway.example.com", "gateway.example.com.evil.org", HOST_REFUSED),
        ("*.example.org", "a.b.example.org", None),
        ("*.example.org", "example.org", HOST_REFUSED),
        ("g?teway", "gateway", HOST_REFUSED),
    ],
)
def test_further_hosts_are_the_operators(allowed: str, host: str, expected: str | None) -> None:
    assert OriginRules([], [allowed]).problem(host=host, origin=None) == expected


def test_without_any_entry_nothing_is_allowed() -> None:
    assert not OriginRules([], []).origin_allowed("", "gw")
    assert not OriginRules([], []).origin_allowed("http://localhost", "gw")
