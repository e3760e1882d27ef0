import re
from typing import Any

import pytest
from pydantic import SecretStr

from herdgate.access import Action, Allow, Credentials, Deny, Identity, Refusal, Resource, Verdict, overall, spread
from herdgate.names import ModelName, ModelPattern


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], Deny("no plugin allowed it")),
        ([("a", None)], Deny("no plugin allowed it")),
        ([("a", Allow("fine"))], Allow("a: fine")),
        ([("a", Allow("one")), ("b", Allow("two"))], Allow("a: one")),
        ([("a", None), ("b", Allow("two"))], Allow("b: two")),
        ([("a", Allow("fine")), ("b", Deny("closed"))], Deny("b: closed")),
        ([("a", Deny("closed")), ("b", Allow("fine"))], Deny("a: closed")),
        ([("a", Deny("one")), ("b", Deny("two"))], Deny("a: one")),
    ],
)
def test_any_deny_wins_and_without_an_allow_it_is_a_deny(
    verdicts: list[tuple[str, Verdict]], expected: Verdict
) -> None:
    assert overall(verdicts) == expected


@pytest.mark.parametrize("verdict", [None, Allow("yes"), Deny("no")])
def test_one_verdict_counts_for_all_resources(verdict: Verdict) -> None:
    assert spread(verdict, 3) == [verdict] * 3


@pytest.mark.parametrize("several", [[Allow(), None, Deny("no")], (Allow(), None, Deny("no"))])
def test_a_list_has_one_verdict_for_each_resource(several: object) -> None:
    assert spread(several, 3) == [Allow(), None, Deny("no")]


@pytest.mark.parametrize("answer", [True, "yes", [Allow()], [Allow()] * 3, [Allow(), True], {}, iter([Allow()] * 2)])
def test_anything_else_is_no_verdict(answer: object) -> None:
    with pytest.raises(TypeError, match="a list of 2"):
        spread(answer, 2)


def test_an_anonymous_caller_cannot_be_an_admin() -> None:
    with pytest.raises(ValueError, match="cannot be an admin"):
        Identity("nobody", anonymous=True, admin=True)


@pytest.mark.parametrize(
    ("fields", "error", "told"),
    [
        ({"name": ""}, ValueError, "the name of a caller is a text that is not empty, not ''"),
        ({"name": None}, ValueError, "the name of a caller is a text that is not empty, not None"),
        ({"models": "llama*"}, TypeError, "models are a tuple of patterns: write ('llama*',), not 'llama*'"),
        ({"models": None}, TypeError, "models are a tuple of patterns, not None"),
        ({"models": {"*"}}, TypeError, "models are a tuple of patterns, not {'*'}"),
        ({"models": ("llama*", 3)}, TypeError, "a pattern of models is a text, not 3"),
        ({"models": (["llama*"],)}, TypeError, "a pattern of models is a text, not ['llama*']"),
        ({"models": ("llama?",)}, ValueError, "invalid model pattern 'llama?'"),
        ({"admin": "false"}, TypeError, "admin, anonymous, cloud and unprotected are True or False, not 'false'"),
        ({"cloud": 1}, TypeError, "admin, anonymous, cloud and unprotected are True or False, not 1"),
        ({"requests_per_minute": "60"}, ValueError, "requests_per_minute is a number of at least 1 or None, not '60'"),
        ({"requests_per_minute": 0}, ValueError, "requests_per_minute is a number of at least 1 or None, not 0"),
        ({"requests_per_minute": 1.5}, ValueError, "requests_per_minute is a number of at least 1 or None, not 1.5"),
        ({"requests_per_minute": True}, ValueError, "requests_per_minute is a number of at least 1 or None, not True"),
    ],
)
def test_a_caller_that_others_would_stumble_over_cannot_be_made(
    fields: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=re.escape(told)):
        Identity(**{"name": "alice", **fields})


def test_a_list_of_patterns_becomes_a_tuple() -> None:
    caller = Identity("alice", models=["llama*", "qwen3:*"])  # type: ignore[arg-type]
    assert caller.models == ("llama*", "qwen3:*")
    assert caller == Identity("alice", models=("llama*", "qwen3:*"))


def test_the_same_patterns_are_read_once_however_many_callers_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    parse = ModelPattern.parse

    def counted(text: str) -> ModelPattern:
        read.append(text)
        return parse(text)

    monkeypatch.setattr(ModelPattern, "parse", counted)
    for number in range(50):
        Identity(f"caller{number}", models=("only-here:*", "and-there"))
    assert read == ["only-here:*", "and-there"]


def test_credentials_never_show_what_they_hold() -> None:
    held = Credentials(key=SecretStr("hg_secret"), authorization=SecretStr("Bearer hg_secret"))
    assert "hg_secret" not in f"{held!r} {held}"


def test_a_caller_is_known_and_no_admin_unless_the_plugin_says_so() -> None:
    plain = Identity("alice")
    assert (plain.admin, plain.anonymous, plain.models) == (False, False, ())
    assert Identity("nobody", anonymous=True).anonymous
    assert Identity("root", admin=True).admin


@pytest.mark.parametrize("refusal", [Refusal("no"), Refusal("no", 400), Refusal("no", 599, 0), Refusal("no", 503, 1.5)])
def test_a_refusal_may_have_any_error_status_and_waiting_time(refusal: Refusal) -> None:
    assert refusal.reason == "no"
    assert Refusal("no").status == 429


@pytest.mark.parametrize("status", [200, 302, 399, 600])
def test_a_refusal_is_never_a_success(status: int) -> None:
    with pytest.raises(ValueError, match="4xx or 5xx"):
        Refusal("no", status=status)


@pytest.mark.parametrize("seconds", [-1, -0.5, float("inf"), float("nan")])
def test_a_refusal_names_a_time_that_can_be_waited_for(seconds: float) -> None:
    with pytest.raises(ValueError, match="nobody can wait"):
        Refusal("later", retry_after=seconds)


@pytest.mark.parametrize(
    ("credentials", "present"),
    [
        (Credentials(), False),
        (Credentials(key=SecretStr("k")), True),
        (Credentials(authorization=SecretStr("Basic dTpw")), True),
    ],
)
def test_any_kind_of_credentials_counts_as_present(credentials: Credentials, present: bool) -> None:
    assert credentials.present is present


def test_a_resource_says_what_it_is() -> None:
    assert str(Resource(ModelName.parse("Llama3"))) == "Llama3:latest"
    assert str(Resource()) == "the gateway"


def test_the_words_for_actions_stay_as_they_are() -> None:
    assert {action.value for action in Action} == {"use", "see", "manage", "observe", "administer"}
