"""Ask the running gateway, as an admin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from herdgate.cli.failures import BadAnswer, BadUsage
from herdgate.config import Settings
from herdgate.config.schema import ADMIN_KEY_FILE_VARIABLE, ADMIN_KEY_VARIABLE
from herdgate.errors import message_of

DEADLINE = 15.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach what listens on all addresses


def ask(settings: Settings, path: str, question: Mapping[str, object]) -> Any:
    """What the gateway of these settings answers to a question in JSON. Raises BadUsage or BadAnswer."""
    if settings.admin_key is None:
        raise BadUsage(
            f"the gateway tells this to admins only: set {ADMIN_KEY_VARIABLE} (or {ADMIN_KEY_FILE_VARIABLE}) to an "
            "admin key, the gateway's own or one made with `proxyctl keys create --admin`"
        )
    url = address(settings)
    headers = {"authorization": f"Bearer {settings.admin_key.get_secret_value()}"}
    try:
        # The gateway is here or near: what the environment says of proxies to the world is not about it.
        reply = httpx.post(f"{url}{path}", json=question, headers=headers, timeout=DEADLINE, trust_env=False)
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise BadAnswer(f"no gateway answers at {url} ({why}): is it running, with the same settings?") from None
    return _read(reply, url)


def address(settings: Settings) -> str:
    """Where the gateway of these settings is reached."""
    host = _EVERYWHERE.get(settings.server.host, settings.server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.server.port}"


def _read(reply: httpx.Response, url: str) -> Any:
    match reply.status_code:
        case 200:
            try:
                return reply.json()
            except ValueError:
                raise BadAnswer(f"what answers at {url} is no gateway of this version") from None
        case 401:
            raise BadAnswer(f"the gateway at {url} does not know the key in {ADMIN_KEY_VARIABLE}")
        case 403:
            raise BadAnswer(f"the key in {ADMIN_KEY_VARIABLE} is no admin key of the gateway at {url}")
        case status:
            raise BadAnswer(message_of(reply.content) or f"the gateway at {url} answered with status {status}")
