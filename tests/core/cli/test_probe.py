"""`proxyctl probe`: what is wrong with a backend, told apart."""

import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme
from click.testing import CliRunner

from herdgate.cli import main
from herdgate.testing.simulated import SimModel

from .conftest import Loop, Simulate, Use, json_of, proxyctl


def probed(code: int = 0) -> list[dict[str, Any]]:
    answer = json_of("probe", "--timeout", "1", code=code)
    assert answer["ok"] is (code == 0)
    backends: list[dict[str, Any]] = answer["backends"]
    return backends


def test_all_is_well(simulate: Simulate, use: Use, aside: Loop) -> None:
    one = simulate("one", "llama3.2", "qwen3:8b")
    use(one)

    (backend,) = probed()

    assert backend.pop("latency_ms") > 0
    assert backend == {
        "name": "one",
        "base_url": one.url,
        "ok": True,
        "cause": None,
        "error": None,
        "version": one.behaviour.version,
        "models": 2,
        "loaded": [],
        "busy": False,
    }
    row = proxyctl("probe").stdout.splitlines()[1].split()
    assert row[:4] == ["one", one.url, "ok", one.behaviour.version]
    assert row[-2:] == ["2", "none"]


def test_headers_are_those_of_routed_requests(simulate: Simulate, use: Use) -> None:
    one = simulate("one", "llama3.2", auth_token="sesame")
    use(
        {
            "name": "one",
            "base_url": one.url,
            "auth_token": "sesame",
            "headers": {"X-Team": "lab-secret"},
            "host_header": "ollama.internal:80",
        }
    )

    said = proxyctl("probe").stdout

    assert {request.path for request in one.requests} == {"/api/version", "/api/tags", "/api/ps"}
    for request in one.requests:
        assert request.values("authorization") == ("Bearer sesame",)
        assert request.values("x-team") == ("lab-secret",)
        assert request.values("host") == ("ollama.internal:80",)
    assert "sesame" not in said
    assert "lab-secret" not in said


def test_nobody_listens(simulate: Simulate, use: Use, dead: dict[str, str]) -> None:
    use(simulate("one", "llama3.2"), dead)

    good, bad = probed(code=1)

    assert good["ok"] is True
    assert bad["cause"] == "refused"
    assert bad["models"] is None
    said = proxyctl("probe", code=1).stdout
    assert "dead: cannot connect to" in said
    assert said.endswith("1 of 2 backends failed\n")


@pytest.mark.parametrize(
    ("settings", "advice"), [({}, "set auth_token"), ({"auth_token": "wrong"}, "does not accept our credentials")]
)
def test_credentials_are_missing_or_wrong(simulate: Simulate, use: Use, settings: dict[str, str], advice: str) -> None:
    one = simulate("one", "llama3.2", auth_token="right")
    use({"name": "one", "base_url": one.url, **settings})

    (backend,) = probed(code=1)

    assert backend["cause"] == "auth"
    assert advice in backend["error"]


def test_the_host_check_of_an_ollama_on_loopback(simulate: Simulate, use: Use) -> None:
    one = simulate("one", "llama3.2")
    use({"name": "one", "base_url": one.url, "host_header": "ai.example.com"})

    (backend,) = probed(code=1)

    assert backend["cause"] == "host"
    assert "host_header" in backend["error"]


def test_silence(simulate: Simulate, use: Use, aside: Loop) -> None:
    one = simulate("one", "llama3.2")
    aside.run(one.freeze())
    use(one)

    (backend,) = probed(code=1)

    assert backend["cause"] == "timeout"
    assert backend["error"] == "no answer within 1 s"


def test_loading_a_model_is_no_failure(simulate: Simulate, use: Use, aside: Loop) -> None:
    one = simulate("one", "llama3.2", load_time=60)
    use(one)
    chat = aside.loop.create_task

    async def ask() -> Any:
        import httpx

        async with httpx.AsyncClient(base_url=one.url, trust_env=False) as client:
            await client.post("/api/generate", json={"model": "llama3.2", "prompt": "hi"}, timeout=60)

    async def begin() -> Any:
        task = chat(ask())
        await one.wait_for(lambda sim: sim.concurrent == 1)
        return task

    task = aside.run(begin())
    (backend,) = probed()
    assert backend["ok"] is True
    assert backend["busy"] is True
    assert backend["loaded"] is None
    assert "busy (loading a model)" in proxyctl("probe", "--timeout", "0.5").stdout

    async def end() -> None:
        import asyncio

        task.cancel()
        await asyncio.wait([task])

    aside.run(end())


def test_loaded_models_are_named(simulate: Simulate, use: Use, aside: Loop) -> None:
    one = simulate("one", "llama3.2", "qwen3:8b")
    use(one)

    async def load() -> None:
        import httpx

        async with httpx.AsyncClient(base_url=one.url, trust_env=False) as client:
            await client.post("/api/generate", json={"model": "qwen3:8b", "prompt": "hi"})

    aside.run(load())
    assert probed()[0]["loaded"] == ["qwen3:8b"]


def test_models_that_differ_under_one_name_are_marked(simulate: Simulate, use: Use) -> None:
    new, unknown = SimModel("llama3.2", digest="b" * 64), SimModel("qwen3:8b", digest="c" * 64)
    one, two, three = simulate("one", "llama3.2", "qwen3:8b"), simulate("two", new), simulate("three", "LLAMA3.2")
    use(one, two, three)
    old = SimModel("llama3.2").digest

    answer = json_of("probe", "--timeout", "1")

    assert answer["ok"] is True
    assert answer["differing"] == [
        {"model": "llama3.2:latest", "digests": {"one": old, "two": new.digest, "three": old}}
    ]
    said = proxyctl("probe").stdout
    assert f"llama3.2:latest: the backends hold different models under this name: one {old[:12]}, two bbbbbbbbbbbb" in (
        " ".join(said.split())
    )
    assert "qwen3" not in said

    two.models.add("llama3.2", unknown)
    one.models.remove("qwen3:8b")
    assert json_of("probe", "--timeout", "1")["differing"] == []


def page(body: bytes, status: bytes = b"200 OK", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%bConnection: close\r\n\r\n%b" % (status, len(body), extra, body)


@pytest.mark.parametrize(
    ("reply", "cause", "advice"),
    [
        (page(b"<html>It works!</html>"), "not_ollama", "is this an Ollama server?"),
        (page(b'{"hello": "world"}'), "not_ollama", "no list of models"),
        (page(b"[]"), "not_ollama", "no list of models"),
        (page(b"\xff\xfe"), "not_ollama", "no JSON"),
        (page(b"Not here", b"404 Not Found"), "not_ollama", "does base_url need a path?"),
        (page(b"", b"302 Found", b"Location: https://elsewhere/\r\n"), "redirect", "final address"),
        (page(b"forbidden", b"403 Forbidden"), "auth", "auth_token"),
        (page(b"oops", b"500 Internal Server Error"), "status", "status 500"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "protocol", "HTTP"),
        (b"", "protocol", ""),
    ],
)
def test_something_else_answers(raw: Callable[[bytes], str], use: Use, reply: bytes, cause: str, advice: str) -> None:
    use({"name": "odd", "base_url": raw(reply)})

    (backend,) = probed(code=1)

    assert (backend["cause"], advice in backend["error"]) == (cause, True), backend["error"]


def test_a_name_that_does_not_exist(use: Use) -> None:
    use({"name": "far", "base_url": "http://nowhere.invalid:11434"})

    (backend,) = probed(code=1)

    assert backend["cause"] in {"dns", "timeout"}  # a resolver without network may take its time
    if backend["cause"] == "dns":
        assert "nowhere.invalid" in backend["error"]


def test_a_certificate_that_is_not_trusted(simulate: Simulate, use: Use) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    use(simulate("one", "llama3.2", tls=context))

    (backend,) = probed(code=1)

    assert backend["cause"] == "tls"
    assert "not trusted" in backend["error"]
    assert "ca_file" in backend["error"]


def test_words_of_a_backend_do_not_steer_the_terminal(simulate: Simulate, use: Use) -> None:
    use(simulate("one", "llama3.2", version="1.0\x1b[2J"))
    said = CliRunner().invoke(main, ["probe"], color=True).stdout  # without `color` click would clean the output
    assert "1.0\ufffd[2J" in said
    assert "\x1b" not in said
