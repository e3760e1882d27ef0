import pytest
from pydantic import SecretStr, ValidationError

from herdgate import Credentials, Identity
from herdgate_plugins.anonymous import Anonymous


def test_a_caller_without_credentials_is_served_and_is_never_an_admin() -> None:
    identity = Anonymous(Anonymous.Settings()).authenticate(Credentials())
    assert identity == Identity("anonymous", models=("*",), anonymous=True)
    assert not identity.admin


def test_the_operator_says_which_models_are_open() -> None:
    identity = Anonymous(Anonymous.Settings(models=("llama3", "qwen*"))).authenticate(Credentials())
    assert identity is not None
    assert identity.models == ("llama3", "qwen*")


@pytest.mark.parametrize(
    "credentials",
    [Credentials(key=SecretStr("hg_wrong")), Credentials(authorization=SecretStr("Basic dTpw"))],
)
def test_wrong_credentials_stay_wrong(credentials: Credentials) -> None:
    assert Anonymous(Anonymous.Settings()).authenticate(credentials) is None


@pytest.mark.parametrize("pattern", ["", "a b", "a:b:c"])
def test_a_pattern_that_can_match_no_model_is_a_mistake(pattern: str) -> None:
    with pytest.raises(ValidationError):
        Anonymous.Settings(models=("llama3", pattern))


def test_an_admin_can_ask_about_callers_without_a_key_by_name() -> None:
    plugin = Anonymous(Anonymous.Settings(models=("llama3",)))
    assert plugin.identify("anonymous") == plugin.authenticate(Credentials())
    assert plugin.identify("alice") is None
