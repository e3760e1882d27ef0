"""What a new plugin does, for each hook: a small thing that works, to be replaced by the author's own."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True)
class Body:
    """The inside of a method.

    `about` says what the plugin does, `arguments` are those of the hook's that it takes, `setting` is the line of its
    Settings. `names` are imported from herdgate, `imports` are lines for other modules, `helper` is code that comes
    before the class. `waits` makes it an async def.
    """

    about: str
    setting: str
    code: str
    arguments: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    helper: str = ""
    waits: bool = False


def _text(default: str, description: str, name: str) -> str:
    return f'{name}: str = Field(default="{default}", description="{description}")'


def _code(text: str) -> str:
    return dedent(text).strip()


NOTHING = Body(
    "Has no opinion yet.",
    'enabled: bool = Field(default=True, description="Whether it has an opinion.")',
    "return None",
)
"""For a hook that has no body here."""

BODIES: dict[str, Body] = {
    "lifespan": Body(
        "Says in the log that the gateway starts.",
        _text("hello", "What the log says at the start.", "greeting"),
        _code("""
            log.info("%s from a gateway with %d backends", self._settings.greeting, len(app.backends))
            return None
        """),
        ("app",),
        imports=("import logging",),
        helper="log = logging.getLogger(__name__)",
    ),
    "backend_sources": Body(
        "Adds one backend to the configured ones.",
        'base_url: str | None = Field(default=None, description="Where it is; without it, nothing is added.")',
        _code("""
            if self._settings.base_url is None:
                return None
            return Fixed(BackendSettings(name="extra", base_url=self._settings.base_url))
        """),
        names=("BackendSettings",),
        helper=_code('''
            class Fixed:
                """A source whose list never changes."""

                def __init__(self, *backends: BackendSettings) -> None:
                    self._backends = backends

                def list(self) -> Sequence[BackendSettings]:
                    """Asked again at every discovery tick."""
                    return self._backends
        '''),
    ),
    "list_models": Body(
        "Lists the models of servers that speak OpenAI's API, marked by a tag.",
        _text("openai", "The tag of the backends that are of this kind.", "tag"),
        _code("""
            if self._settings.tag not in backend.tags:
                return None
            listed = (await client.get("/v1/models")).raise_for_status().json()["data"]
            return [ModelEntry.from_tags({"name": model["id"]}) for model in listed]
        """),
        ("backend", "client"),
        waits=True,
    ),
    "shape_catalogue": Body(
        "Hides models by the end of their tag.",
        _text("-draft", "What the tag of a hidden model ends with.", "hidden"),
        "return [entry for entry in entries if not entry.name.tag.endswith(self._settings.hidden)]",
        ("entries",),
    ),
    "authenticate": Body(
        "Knows callers by tokens that the settings give.",
        'tokens: dict[str, SecretStr] = Field(default={}, description="The token of each caller, by name.")',
        _code("""
            if credentials.key is None:
                return None
            given = credentials.key.get_secret_value().encode()
            for name, token in self._settings.tokens.items():
                if hmac.compare_digest(given, token.get_secret_value().encode()):
                    return Identity(name, models=("*",))
            return None
        """),
        ("credentials",),
        imports=("import hmac", "from pydantic import SecretStr"),
    ),
    "admit": Body(
        "Refuses callers who are to wait.",
        'waiting: frozenset[str] = Field(default=frozenset(), description="The names of callers who are to wait.")',
        _code("""
            if identity.name in self._settings.waiting:
                return Refusal("please wait", retry_after=60)
            return None
        """),
        ("identity",),
    ),
    "authorise": Body(
        "Lets some callers look, but use nothing.",
        'readers: frozenset[str] = Field(default=frozenset(), description="The names of callers who may only look.")',
        _code("""
            if identity.name in self._settings.readers and action is not Action.SEE:
                return Deny("may only look")
            return None
        """),
        ("identity", "action"),
        names=("Deny",),
    ),
    "mask_denial": Body(
        "Words denials differently, the same for every model.",
        _text("ask the operators for this model", "What a caller reads.", "message"),
        _code("""
            body = json.dumps({"error": self._settings.message}).encode()
            return Reply(403, {"content-type": "application/json"}, body)
        """),
        imports=("import json",),
    ),
    "select_candidates": Body(
        "Tries the backends with a tag before all others.",
        _text("fast", "The tag of the backends to try first.", "prefer"),
        "return sorted(candidates, key=lambda candidate: self._settings.prefer not in candidate.backend.tags)",
        ("candidates",),
    ),
    "around_attempt": Body(
        "Leaves out backends that are to rest.",
        'resting: frozenset[str] = Field(default=frozenset(), description="The names of backends to leave out.")',
        'return Skip("it rests") if attempt.backend.name in self._settings.resting else None',
        ("attempt",),
    ),
    "prepare_upstream": Body(
        "Tells backends the id of the request.",
        _text("x-request-id", "The name of the header.", "header"),
        "return request.with_header(self._settings.header, exchange.id)",
        ("exchange", "request"),
    ),
    "judge_failure": Body(
        "Limits how many backends one request may try.",
        'attempts: int = Field(default=3, ge=1, description="How many backends one request may try.")',
        _code("""
            if attempt.number >= self._settings.attempts:
                return GiveUp(f"{attempt.number} attempts are enough")
            return None
        """),
        ("attempt",),
    ),
    "inspect_opening": Body(
        "Takes a reply that begins with a certain text for a failure.",
        _text("[[unavailable]]", "The text.", "marker"),
        _code("""
            if self._settings.marker.encode() in opening:
                return Failure(Kind.ERROR_EVENT, Phase.OPENING, "the reply begins with the marker")
            return None
        """),
        ("opening",),
        names=("Kind", "Phase"),
    ),
    "filter_stream": Body(
        "Counts the bytes of replies whose callers ask for it by a header.",
        _text("x-count", "The name of that header.", "header"),
        "return Count() if self._settings.header in exchange.headers else None",
        ("exchange",),
        imports=("import logging",),
        helper=_code('''
            log = logging.getLogger(__name__)


            class Count:
                """Lets everything through."""

                def __init__(self) -> None:
                    self._bytes = 0

                def feed(self, data: bytes) -> bytes:
                    """The boundaries of the pieces mean nothing: an event may come in two of them."""
                    self._bytes += len(data)
                    return data

                def finish(self) -> bytes:
                    """What was held back so far is given up here; this filter holds nothing back."""
                    log.info("%d bytes", self._bytes)
                    return b""
        '''),
    ),
    "routes": Body(
        "Tells administrators the names of the backends.",
        _text("/herdgate/names", "The path that it answers.", "path"),
        _code("""
            async def answer(call: Call) -> Reply:
                body = json.dumps([backend.name for backend in fleet.backends]).encode()
                return Reply(200, {"content-type": "application/json"}, body)

            return Route(self._settings.path, answer, Action.ADMINISTER)
        """),
        ("fleet",),
        names=("Action", "Call", "Reply"),
        imports=("import json",),
    ),
    "exchange_ended": Body(
        "Writes slow requests to the log.",
        'slower_than: float = Field(default=10.0, ge=0, description="Seconds from which a request is slow.")',
        _code("""
            if summary.seconds > self._settings.slower_than:
                log.warning("request %s took %.1f s", summary.exchange.id, summary.seconds)
        """),
        ("summary",),
        imports=("import logging",),
        helper="log = logging.getLogger(__name__)",
    ),
}
