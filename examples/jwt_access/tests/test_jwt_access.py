from __future__ import annotations

import asyncio
import hmac
import inspect
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from herdgate import Credentials, Identity, Refusal, Rejected
from herdgate.testing import FakeClock, SimulatedOllama, assert_plugin_is_well_behaved, gateway_with
from pydantic import SecretStr, ValidationError

import herdgate_jwt_access
from herdgate_jwt_access import DEADLINE, LARGEST, PAUSE, JwtAccess

ISSUER = "https://login.example.com/realms/team"
SETTINGS = {
    "issuer": ISSUER,
    "audience": "herdgate",
    "groups": {"developers": ["llama3.2", "qwen3:*"], "everybody": ["llama3.2"]},
    "admins": ["ops"],
}
KEYS: dict[str, Any] = {
    "one": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "two": ec.generate_private_key(ec.SECP256R1()),
}
ALGORITHMS = {"one": "RS256", "two": "ES256"}


def public(kid: str) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name(ALGORITHMS[kid])
    return {**json.loads(algorithm.to_jwk(KEYS[kid].public_key())), "kid": kid, "use": "sig"}


class Provider(httpx.MockTransport):
    """What an OpenID Connect provider publishes."""

    def __init__(self, *kids: str) -> None:
        super().__init__(self._answer)
        self.kids = list(kids)
        self.asked = 0
        self.away = False
        self.issuer = ISSUER

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.away:
            raise httpx.ConnectError("away")
        if request.url.path.endswith("/.well-known/openid-configuration"):
            return httpx.Response(200, json={"issuer": self.issuer, "jwks_uri": f"{ISSUER}/keys"})
        return httpx.Response(200, json={"keys": [public(kid) for kid in self.kids]})


def token(kid: str = "one", *, without: str = "", **claims: Any) -> str:
    now = time.time()
    given = {"iss": ISSUER, "aud": "herdgate", "sub": "alice", "exp": now + 300, "groups": ["everybody"], **claims}
    given.pop(without, None)
    return jwt.encode(given, KEYS[kid], algorithm=ALGORITHMS[kid], headers={"kid": kid})


def encoded(part: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@asynccontextmanager
async def running(provider: Provider, clock: FakeClock | None = None, **settings: Any) -> Any:
    plugin = JwtAccess(JwtAccess.Settings.model_validate({**SETTINGS, **settings}), provider, clock or time.monotonic)
    async with plugin.lifespan():
        yield plugin


async def who(plugin: JwtAccess, key: str | None) -> object:
    answer = plugin.authenticate(Credentials(key=SecretStr(key) if key is not None else None))
    return await answer if inspect.isawaitable(answer) else answer


@pytest.fixture
def provider() -> Iterator[Provider]:
    yield Provider("one", "two")


@pytest.mark.parametrize("kid", ["one", "two"])
async def test_a_token_says_who_it_is(provider: Provider, kid: str) -> None:
    async with running(provider) as plugin:
        assert await who(plugin, token(kid)) == Identity("alice", models=("llama3.2",))
        several = token(kid, groups=["developers", "everybody", "ops", 7], aud=["other", "herdgate"])
        assert await who(plugin, several) == Identity("alice", models=("llama3.2", "qwen3:*"), admin=True)
    assert provider.asked == 2, "verifying asks nobody"


@pytest.mark.parametrize("groups", [None, "everybody", {"everybody": 1}, ["unknown"]])
async def test_without_a_group_that_counts_nothing_is_allowed(provider: Provider, groups: object) -> None:
    async with running(provider) as plugin:
        assert await who(plugin, token(groups=groups)) == Identity("alice")


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": time.time() - 60}, "ExpiredSignatureError"),
        ({"nbf": time.time() + 600}, "ImmatureSignatureError"),
        ({"aud": "another"}, "InvalidAudienceError"),
        ({"iss": "https://evil.example.com"}, "InvalidIssuerError"),
        ({"without": "exp"}, "MissingRequiredClaimError"),
        ({"without": "aud"}, "MissingRequiredClaimError"),
        ({"without": "iss"}, "MissingRequiredClaimError"),
    ],
)
async def test_a_token_that_is_not_valid_here_and_now(provider: Provider, claims: dict[str, Any], why: str) -> None:
    async with running(provider) as plugin:
        assert await who(plugin, token(**claims)) == Rejected(f"the token is refused: {why}")


@pytest.mark.parametrize("name", ["", 7, None, "a\nb", "x" * 300])
async def test_a_token_without_a_usable_name(provider: Provider, name: object) -> None:
    async with running(provider, name_claim="login") as plugin:
        assert await who(plugin, token(login=name)) == Rejected("the token has no usable login")


async def test_tampering(provider: Provider) -> None:
    head, claims, signature = token().split(".")
    other = token(groups=["ops"]).split(".")[1]
    unsigned = jwt.encode({"sub": "root", "aud": "herdgate", "iss": ISSUER}, "", "none", headers={"kid": "one"})
    start = f"{encoded({'alg': 'HS256', 'kid': 'one'})}.{encoded({'sub': 'root', 'aud': 'herdgate', 'iss': ISSUER})}"
    with_public_key = hmac.digest(json.dumps(public("one")).encode(), start.encode(), "sha256")
    forged = f"{start}.{urlsafe_b64encode(with_public_key).decode().rstrip('=')}"
    async with running(provider) as plugin:
        for bad in (f"{head}.{other}.{signature}", f"{head}.{claims}.", unsigned, forged, "a.b.c", "..", "ä.ö.ü"):
            assert isinstance(await who(plugin, bad), Rejected), bad
        assert await who(plugin, f"{'a' * LARGEST}.b.c") == Rejected("the token is too large")
        only = JwtAccess.Settings.model_validate({**SETTINGS, "algorithms": ["ES256"]})
        plugin._settings = only
        assert await who(plugin, token("one")) == Rejected("the token is refused: InvalidAlgorithmError")


@pytest.mark.parametrize("key", [None, "", "hg_abc", "sk-a.b"])
async def test_what_is_no_token_is_left_to_others(provider: Provider, key: str | None) -> None:
    async with running(provider) as plugin:
        assert await who(plugin, key) is None


async def test_a_new_key_is_fetched_once_and_made_up_ones_not_too_often() -> None:
    provider, clock = Provider("one"), FakeClock()
    async with running(provider, clock) as plugin:
        provider.kids = ["two"]
        unknown = Rejected("the token is signed with an unknown key")
        clock.advance(PAUSE - 1)
        assert await who(plugin, token("two")) == unknown
        assert provider.asked == 2
        clock.advance(1)
        assert await who(plugin, token("two")) == Identity("alice", models=("llama3.2",))
        assert await who(plugin, token("one")) == unknown, "a key that was taken back counts no more"
        assert provider.asked == 4


async def test_while_the_provider_is_away_its_last_keys_count(provider: Provider) -> None:
    clock = FakeClock()
    async with running(provider, clock) as plugin:
        provider.away = True
        clock.advance(PAUSE)
        await plugin._fetch()
        assert isinstance(await who(plugin, token()), Identity)


@pytest.mark.parametrize("wrong", ["away", "issuer"])
async def test_without_any_keys_nobody_can_tell(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    provider, clock = Provider("one"), FakeClock()
    provider.away = wrong == "away"
    provider.issuer = "https://evil.example.com" if wrong == "issuer" else ISSUER
    async with running(provider, clock) as plugin:
        answer = await who(plugin, token())
        assert isinstance(answer, Refusal)
        assert answer.status == 503
        provider.away, provider.issuer = False, ISSUER
        clock.advance(PAUSE)
        assert isinstance(await who(plugin, token()), Identity)
    assert f"the keys of {ISSUER} cannot be fetched" in caplog.text


async def test_a_provider_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herdgate_jwt_access, "DEADLINE", 0.05)
    began = time.monotonic()

    async def silent(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError("nobody waits for this")

    plugin = JwtAccess(JwtAccess.Settings.model_validate(SETTINGS), httpx.MockTransport(silent))
    async with plugin.lifespan():
        assert isinstance(await who(plugin, token()), Refusal)
    assert time.monotonic() - began < DEADLINE


@pytest.mark.parametrize(
    "wrong", [{"issuer": "nowhere"}, {"audience": ""}, {"algorithms": ["none"]}, {"algorithms": ["HS256"]}]
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JwtAccess.Settings.model_validate({**SETTINGS, **wrong})


async def test_in_a_gateway(provider: Provider) -> None:
    plugins = ["configured_backends", "ollama_discovery", "jwt_access", "model_access"]
    async with SimulatedOllama("first", ["llama3.2", "secret"]) as first:
        started = gateway_with(JwtAccess, first, settings=SETTINGS, extra={"transport": provider}, plugins=plugins)
        async with started as gateway:
            bearer = {"authorization": f"Bearer {token()}"}
            assert await gateway.answered_by("llama3.2", headers=bearer) == "first"
            assert (await gateway.chat("secret", headers=bearer)).status_code == 403
            expired = {"authorization": f"Bearer {token(exp=time.time() - 60)}"}
            assert (await gateway.chat(headers=expired)).status_code == 401
            assert (await gateway.chat()).status_code == 401
        assert not gateway.faults
        assert all(request.values("authorization") == () for request in first.requests)


def test_it_is_well_behaved(provider: Provider) -> None:
    assert_plugin_is_well_behaved(JwtAccess, SETTINGS, {"transport": provider})
