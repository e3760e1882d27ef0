import pytest

from herdgate import Action, Allow, Identity, ModelName, ModelPattern, Resource
from herdgate_plugins.model_access import ModelAccess


def allowed(models: tuple[str, ...], name: str, action: Action = Action.USE, *, admin: bool = False) -> bool:
    identity = Identity("alice", models=models, admin=admin)
    (verdict,) = ModelAccess().authorise(identity, action, [Resource(ModelName.parse(name))])
    assert verdict is None or isinstance(verdict, Allow)
    return verdict is not None


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("llama3", "llama3", True),
        ("llama3", "LLaMA3:latest", True),
        ("llama3", "library/llama3", True),
        ("llama3", "llama3:8b", False),
        ("llama3", "llama3.2", False),
        ("llama3*", "llama3.2:1b", True),
        ("llama3:*", "llama3:8b", True),
        ("*", "hf.co/org/model:Q4", True),
        ("org/*", "org/model", True),
        ("org/*", "other/model", False),
        ("q*", "org/qwen", False),
    ],
)
@pytest.mark.parametrize("action", [Action.USE, Action.SEE])
def test_a_pattern_decides_on_canonical_names(pattern: str, name: str, expected: bool, action: Action) -> None:
    assert allowed((pattern,), name, action) is expected
    assert allowed(("other", pattern), name, action) is expected


def test_a_caller_without_patterns_is_allowed_nothing() -> None:
    assert not allowed((), "llama3")
    assert not allowed((), "llama3", admin=True)


@pytest.mark.parametrize("name", ["gpt-oss:cloud", "gpt-oss:20b-cloud", "innocent"])
@pytest.mark.parametrize("pattern", ["*", "gpt-oss:*", "gpt-oss:cloud", "innocent"])
@pytest.mark.parametrize("action", [Action.USE, Action.SEE])
def test_a_model_in_the_cloud_needs_more_than_a_pattern(name: str, pattern: str, action: Action) -> None:
    resource = Resource(ModelName.parse(name), cloud=name == "innocent")
    covered = ModelPattern.parse(pattern).matches(ModelName.parse(name))
    for cloud in (False, True):
        identity = Identity("alice", models=(pattern,), admin=True, cloud=cloud)
        (verdict,) = ModelAccess().authorise(identity, action, [resource])
        assert isinstance(verdict, Allow) == (cloud and covered)


def test_it_says_nothing_of_managing_models_not_even_to_admins() -> None:
    assert not allowed(("*",), "llama3", Action.MANAGE, admin=True)


@pytest.mark.parametrize("admin", [True, False])
def test_only_an_admin_administers_the_gateway(admin: bool) -> None:
    verdicts = ModelAccess().authorise(Identity("a", models=("*",), admin=admin), Action.ADMINISTER, [Resource()])
    assert verdicts == [Allow("an admin key") if admin else None]


@pytest.mark.parametrize("action", [Action.USE, Action.SEE, Action.MANAGE])
def test_a_pattern_never_means_the_gateway_itself(action: Action) -> None:
    assert ModelAccess().authorise(Identity("a", models=("*",)), action, [Resource()]) == [None]


def test_many_models_get_a_verdict_each_with_the_pattern_as_reason() -> None:
    resources = [Resource(ModelName.parse(name)) for name in ("llama3", "qwen3", "llama3:8b")]
    verdicts = ModelAccess().authorise(Identity("a", models=("qwen*", "llama3")), Action.SEE, resources)
    assert verdicts == [Allow("pattern llama3"), Allow("pattern qwen*"), None]
