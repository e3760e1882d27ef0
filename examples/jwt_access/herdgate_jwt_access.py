"""Callers with tokens of an OpenID Connect provider: Keycloak, Entra ID, Okta, … A Herdgate plugin.

PyJWT verifies the tokens. The provider's public keys are fetched at the start and kept up to date; a token is verified
here, without asking anybody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import httpx
import jwt
from herdgate import Credentials, Identity, ModelPattern, Refusal, Rejected, hookimpl
from pydantic import BaseModel, Field, HttpUrl, field_validator

log = logging.getLogger("herdgate_jwt_access")

DEADLINE = 3.0
"""Seconds that the provider has for an answer while a request waits for it."""
PAUSE = 30.0
"""Seconds between two questions that tokens with unknown keys can cause: anybody can make up such a token."""
LEEWAY = 30.0
"""Seconds by which clocks may differ."""
LARGEST = 16 * 1024

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
Answer = Identity | Rejected | Refusal | None


class JwtAccess:
    """Recognises callers by `Authorization: Bearer TOKEN`. Leaves to others what is no token."""

    herdgate_api = 1

    class Settings(BaseModel):
        """What the entry in plugins.toml may say."""

        issuer: HttpUrl = Field(description="The provider, exactly as its tokens name it in `iss`.")
        audience: str = Field(min_length=1, description="What this gateway is called there: `aud` must hold it.")
        groups: dict[str, tuple[str, ...]] = Field(description="The models that members of a group may use.")
        admins: tuple[str, ...] = Field(default=(), description="Groups whose members are admins of the gateway.")
        groups_claim: str = Field(default="groups", description="The claim that lists a caller's groups.")
        name_claim: str = Field(default="sub", description="The claim that says who the caller is.")
        algorithms: tuple[Algorithm, ...] = Field(default=("RS256", "ES256"), description="Signatures to accept.")
        refresh: Annotated[float, Field(gt=0)] = Field(
            default=3600.0, description="Seconds until keys are fetched anew."
        )

        @field_validator("groups")
        @classmethod
        def _patterns(cls, groups: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
            for patterns in groups.values():
                for pattern in patterns:
                    ModelPattern.parse(pattern)
            return groups

    def __init__(
        self,
        settings: Settings,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._issuer = str(settings.issuer)
        self._client = httpx.AsyncClient(transport=transport, timeout=DEADLINE, follow_redirects=False)
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    @hookimpl
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Fetch the keys, and again from time to time. A provider that is away keeps no gateway from starting."""
        await self._fetch()
        keeper = asyncio.create_task(self._keep(), name="provider's keys")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])
            await self._client.aclose()

    @hookimpl
    def authenticate(self, credentials: Credentials) -> Answer | Awaitable[Answer]:
        """Whose token this is. Only a token that is signed with an unknown key is waited for."""
        token = credentials.key.get_secret_value() if credentials.key else ""
        if token.count(".") != 2:
            return None
        if len(token) > LARGEST:
            return Rejected("the token is too large")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            return Rejected("the token cannot be read")
        key = self._keys.get(str(header.get("kid")))
        return self._look_again(token, str(header.get("kid"))) if key is None else self._verified(token, key)

    def _verified(self, token: str, key: jwt.PyJWK) -> Identity | Rejected:
        """What the provider says of the caller, if the token is its own, for this gateway, and valid now."""
        settings = self._settings
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=settings.algorithms,
                audience=settings.audience,
                issuer=[self._issuer, self._issuer.rstrip("/")],
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.InvalidTokenError as error:
            return Rejected(f"the token is refused: {type(error).__name__}")
        return self._identity(claims)

    def _identity(self, claims: dict[str, Any]) -> Identity | Rejected:
        name, listed = claims.get(self._settings.name_claim), claims.get(self._settings.groups_claim)
        if not isinstance(name, str) or not name or not name.isprintable() or len(name) > 256:
            return Rejected(f"the token has no usable {self._settings.name_claim}")
        groups = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
        models = [pattern for group in groups for pattern in self._settings.groups.get(group, ())]
        return Identity(
            name, models=tuple(dict.fromkeys(models)), admin=any(g in self._settings.admins for g in groups)
        )

    async def _look_again(self, token: str, kid: str) -> Answer:
        """The provider may have a new key. It is asked once for all who wait, and not too often."""
        asked_at = self._clock()
        async with self._asking:
            if kid not in self._keys and self._asked_at < asked_at and asked_at - self._asked_at >= PAUSE:
                await self._fetch()
        key = self._keys.get(kid)
        if key is not None:
            return self._verified(token, key)
        if not self._keys:
            return Refusal("tokens cannot be checked at the moment, please try again", status=503, retry_after=PAUSE)
        return Rejected("the token is signed with an unknown key")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh if self._keys else PAUSE)
            async with self._asking:
                await self._fetch()

    async def _fetch(self) -> None:
        """Take over the provider's keys; the last ones stay if it is away."""
        self._asked_at = self._clock()
        try:
            async with asyncio.timeout(DEADLINE):
                about = await self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                if str(about.get("issuer")).rstrip("/") != self._issuer.rstrip("/"):
                    raise ValueError("it calls itself something else")
                listed = await self._get(str(about.get("jwks_uri")))
            found = [key for key in jwt.PyJWKSet.from_dict(listed).keys if key.key_id]
        except (httpx.HTTPError, httpx.InvalidURL, jwt.PyJWTError, TimeoutError, ValueError) as error:
            log.warning("the keys of %s cannot be fetched: %s: %s", self._issuer, type(error).__name__, error)
        else:
            self._keys = {str(key.key_id): key for key in found if key.public_key_use in {None, "sig"}}

    async def _get(self, url: str) -> dict[str, Any]:
        answer = (await self._client.get(url)).raise_for_status().json()
        if not isinstance(answer, dict):
            raise ValueError("its answer is no object")
        return answer
