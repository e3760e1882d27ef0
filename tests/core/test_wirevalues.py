import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from herdgate.wirevalues import check_base_url, check_headers, check_host_header, check_token, is_host

SECRET = "s3kr1t"


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("http://gpu1:11434", "http://gpu1:11434"),
        ("http://gpu1:11434/", "http://gpu1:11434"),
        (" HTTPS://GPU.Example.COM/Ollama// ", "https://gpu.example.com/Ollama"),
        ("http://[::1]:11434/a/b/", "http://[::1]:11434/a/b"),
        ("http://10.0.0.1", "http://10.0.0.1"),
        ("http://ollama_1:80/u/%41", "http://ollama_1:80/u/%41"),
        ("http://xn--bcher-kva.example", "http://xn--bcher-kva.example"),
    ],
)
def test_an_address_gets_its_one_form(written: str, normal: str) -> None:
    assert check_base_url(written) == normal


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("gpu1:11434", "http://"),
        ("ftp://gpu1", "http://"),
        ("http:gpu1", "no valid host"),
        ("http://", "no valid host"),
        ("http://:80", "no valid host"),
        ("http://gpu1:", "no valid host"),
        ("http://gpu1:0", "no valid host"),
        ("http://1.2.3.400", "no valid host"),
        ("http://-gpu", "no valid host"),
        ("http://a..b", "no valid host"),
        ("http://bücher.example", "xn--"),
        ("http://[fe80::1%25eth0]", "no valid host"),
        ("http://gpu1:99999", "not a valid URL"),
        (f"http://gpu1:{SECRET}", "not a valid URL"),
        ("http://[::1", "not a valid URL"),
        (f"http://u:{SECRET}@gpu1", "auth_token"),
        (f"http://u:{SECRET}/@gpu1", "auth_token"),
        (f"http://gpu1?key={SECRET}", "query"),
        (f"http://gpu1#{SECRET}", "fragment"),
        ("http://gp\nu1", "white space"),
        ("http://gpu 1", "white space"),
        ("http://gpu1/a/../b", "dot segments"),
        ("http://gpu1/ä", "path"),
    ],
)
def test_a_bad_address_is_refused_with_its_reason_and_never_repeated(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        check_base_url(written)
    assert SECRET not in str(caught.value)


@settings(deadline=None)
@given(st.text("abz019.-_:[]/%~ @?#\\éhtps", max_size=30))
@example("a.b:1/x")
def test_every_accepted_address_is_one_for_the_http_client_too(rest: str) -> None:
    try:
        address = check_base_url(f"http://{rest}")
    except ValueError:
        return
    url = httpx.URL(address)
    assert url.host
    assert not url.userinfo
    assert check_base_url(address) == address


@pytest.mark.parametrize("text", ["a", "a.b.", "A_1-2.c", "127.0.0.1", "[::1]", "x" * 63])
def test_hosts(text: str) -> None:
    assert is_host(text)


@pytest.mark.parametrize(
    "text", ["", "a b", "a/b", "a:1", "::1", "1.2.3", "[1.2.3.4]", "[::1", "a..b", "-a", "٣.٣.٣.٣", "x" * 300]
)
def test_no_hosts(text: str) -> None:
    assert not is_host(text)


def test_a_token_loses_the_white_space_around_it() -> None:
    assert check_token(SecretStr(" abc\n")).get_secret_value() == "abc"


@pytest.mark.parametrize("token", [f"Bearer {SECRET}", f"{SECRET} {SECRET}", f"{SECRET}\r\nX: y", f"{SECRET}é", " "])
def test_a_token_that_cannot_be_sent_is_refused_and_never_repeated(token: str) -> None:
    with pytest.raises(ValueError, match=r"Bearer|token") as caught:
        check_token(SecretStr(token))
    assert SECRET not in str(caught.value)


def test_headers_that_can_be_sent_are_kept_as_they_are() -> None:
    headers = {"X-Team": SecretStr("a b"), "CF-Access-Client-Id": SecretStr("x")}
    assert check_headers(headers) == headers


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Host": "x"}, "host_header"),
        ({"Content-Length": "3"}, "belongs to each request"),
        ({"transfer-encoding": "chunked"}, "belongs to each request"),
        ({"X-A:": "x"}, "header name"),
        ({"": "x"}, "header name"),
        ({"X A": "x"}, "header name"),
        ({"X-A": "x", "x-a": "y"}, "twice"),
        ({"X-A": f"{SECRET}\r\nX-B: y"}, "line break"),
        ({"X-A": f" {SECRET}"}, "space at its ends"),
        ({"X-A": ""}, "visible"),
    ],
)
def test_headers_that_would_break_a_request_are_refused(headers: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        check_headers({name: SecretStr(value) for name, value in headers.items()})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["localhost", "localhost:11434", "[::1]", "[::1]:80", "ollama.internal"])
def test_a_host_header_may_have_a_port(text: str) -> None:
    assert check_host_header(f" {text} ") == text


@pytest.mark.parametrize("text", ["", "a b", "a:", "a:0", "a:70000", "a/b", "a\r\nX: y", "http://a", "::1"])
def test_a_bad_host_header_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        check_host_header(text)
