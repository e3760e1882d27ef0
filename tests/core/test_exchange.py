import time
from typing import Any

import pytest

from herdgate.backend import Backend, Candidate, ModelEntry
from herdgate.body import read_body
from herdgate.exchange import Attempt, AttemptOutcome, Exchange, Head, Outcome, Stage, Summary, UpstreamRequest
from herdgate.failure import Failure, Kind, Phase
from herdgate.form import read_form
from herdgate.surface import Family


def exchange(path: str = "/api/chat", headers: dict[str, str] | None = None) -> Exchange:
    return Exchange("r1", method="POST", path=path, client="127.0.0.1", headers=headers)


def attempt(number: int = 1, backend: str = "gpu1") -> Attempt:
    return Attempt(number, Candidate(Backend(backend, "http://gpu"), ModelEntry.from_tags({"name": "llama3"})))


def test_a_request_begins_with_what_its_path_says() -> None:
    known = exchange("/v1/chat/completions")
    assert known.endpoint is not None
    assert (known.endpoint.name, known.family) == ("chat_completions", Family.OPENAI)
    unknown = exchange("/v1/nothing")
    assert (unknown.endpoint, unknown.family) == (None, Family.OPENAI)
    assert 0 <= time.monotonic() - known.started < 5


def test_nothing_is_known_of_a_request_that_its_head_does_not_say() -> None:
    request = exchange()
    assert (request.id, request.method, request.path, request.client) == ("r1", "POST", "/api/chat", "127.0.0.1")
    assert (request.identity, request.body, request.model, request.streaming) == (None, None, None, False)
    assert (request.attempts, request.notes, request.stage) == ((), {}, Stage.RECEIVED)
    summary = Summary(request, Outcome.DENIED, 403, 0.1)
    assert (summary.sent, summary.first_byte_after, summary.tail) == (0, None, b"")


def test_the_words_for_how_it_ended_stay_as_they_are() -> None:
    """They are in logs and metrics."""
    assert [outcome.value for outcome in Outcome] == [
        "answered",
        "refused",
        "denied",
        "failed",
        "broken",
        "client_left",
        "error",
    ]
    assert [outcome.value for outcome in AttemptOutcome] == ["running", "succeeded", "failed", "abandoned"]


def test_the_stages_come_in_the_order_of_a_requests_way() -> None:
    assert [stage.name for stage in sorted(Stage)] == [
        "RECEIVED",
        "AUTHENTICATED",
        "ADMITTED",
        "AUTHORISED",
        "ATTEMPTING",
        "COMMITTED",
        "ENDED",
    ]


def test_a_request_only_ever_moves_forward() -> None:
    request = exchange()
    request.advance(Stage.AUTHENTICATED)
    request.advance(Stage.COMMITTED)
    for stage in (Stage.COMMITTED, Stage.ATTEMPTING, Stage.RECEIVED):
        with pytest.raises(RuntimeError, match=f"cannot go from COMMITTED to {stage.name}"):
            request.advance(stage)
    assert request.stage is Stage.COMMITTED


def test_it_is_committed_from_the_first_byte_on() -> None:
    request = exchange()
    assert not request.committed
    request.advance(Stage.ATTEMPTING)
    assert not request.committed
    request.advance(Stage.COMMITTED)
    assert request.committed
    request.advance(Stage.ENDED)
    assert request.committed


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "COOKIE", "Proxy-Authorization"])
def test_plugins_see_no_credentials(name: str) -> None:
    request = exchange(headers={name: "hg_secret", "User-Agent": "curl"})
    assert request.headers == {"user-agent": "curl"}
    assert "hg_secret" not in repr(request)


def test_nothing_that_plugins_are_given_can_be_changed_in_place() -> None:
    request = exchange(headers={"User-Agent": "curl"})
    read = read_body(b'{"model": "llama3"}')
    form = read_form(
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--x--\r\n', "multipart/form-data; boundary=x"
    )
    for given in (request.headers, read.fields, form.fields):
        with pytest.raises(TypeError, match="does not support item assignment"):
            given["model"] = "other"  # type: ignore[index]
    assert (read.text("model"), form.text("model")) == ("llama3", "m")
    assert not hasattr(request.attempts, "append")


def test_a_request_is_told_by_its_id_method_path_and_stage() -> None:
    assert repr(exchange()) == "<Exchange r1 POST /api/chat received>"


def test_a_header_set_for_a_backend_replaces_those_of_the_same_name() -> None:
    request = UpstreamRequest("POST", "/api/chat", (("x-a", "1"), ("accept", "*/*"), ("x-a", "2")), b"{}")
    changed = request.with_header("X-A", "3")
    assert changed.headers == (("accept", "*/*"), ("x-a", "3"))
    assert request.headers == (("x-a", "1"), ("accept", "*/*"), ("x-a", "2"))
    assert (changed.method, changed.path, changed.body) == ("POST", "/api/chat", b"{}")


@pytest.mark.parametrize("value", ["", "x", "a\tb", "grün", "日本", "\udcff", " x ", "a:b"])
def test_what_a_header_may_say(value: str) -> None:
    assert UpstreamRequest("POST", "/", (), b"").with_header("X-A", value).headers == (("x-a", value),)


def test_what_cannot_be_sent_is_refused_where_it_is_said_and_its_value_is_in_no_message() -> None:
    request: Any = UpstreamRequest("POST", "/api/chat", (), b"{}")
    for name, value in [("x a", "secret"), ("", "secret"), ("ä", "secret"), ("x-a", "secret\n"), ("x-a", "secret\x7f")]:
        with pytest.raises(ValueError, match="does not allow") as caught:
            request.with_header(name, value)
        assert "secret" not in str(caught.value)
    wrong: list[tuple[Any, str]] = [
        (lambda: request.with_header("x-a", b"x"), "the header 'x-a' is a str, not bytes"),
        (lambda: request.with_body("{}"), "the body of a request is bytes, not str"),
        (lambda: request.with_path(None), "the path is a str, not NoneType"),
    ]
    for call, words in wrong:
        with pytest.raises(TypeError, match=words):
            call()
    with pytest.raises(ValueError, match="a path begins with /"):
        request.with_path("api/chat")


def test_what_users_write_is_in_no_repr() -> None:
    assert "secret" not in repr(UpstreamRequest("POST", "/api/chat", (), b"secret"))
    assert "secret" not in repr(Summary(exchange(), Outcome.ANSWERED, 200, 1.0, tail=b"secret"))


def test_a_summary_says_what_it_holds_and_cannot_be_changed() -> None:
    request = exchange()
    summary = Summary(exchange=request, outcome=Outcome.FAILED, status=502, seconds=1.0, tail=b"x")
    assert repr(summary) == (
        "Summary(exchange=<Exchange r1 POST /api/chat received>, outcome=<Outcome.FAILED: 'failed'>, status=502, "
        "seconds=1.0, sent=0, first_byte_after=None, backend=None)"
    )
    assert summary == Summary(request, Outcome.FAILED, 502, 1.0, tail=b"x")
    assert summary != Summary(request, Outcome.FAILED, 502, 1.0, tail=b"y")
    for name in ("status", "another"):
        with pytest.raises(AttributeError):
            setattr(summary, name, 200)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        (" text/event-stream ;x=y", "text/event-stream"),
        ("", ""),
    ],
)
def test_a_content_type_is_read_without_parameters(value: str, expected: str) -> None:
    assert Head(200, {"content-type": value}).content_type == expected
    assert Head(200, {}).content_type == ""


def test_a_failed_attempt_keeps_why() -> None:
    tried = attempt()
    assert (tried.outcome, tried.failure) == (AttemptOutcome.RUNNING, None)
    failure = Failure(Kind.BROKEN, Phase.SENT, "reset")
    tried.failed(failure)
    assert (tried.outcome, tried.failure) == (AttemptOutcome.FAILED, failure)
    assert (tried.backend.name, tried.model.name.display) == ("gpu1", "llama3:latest")
