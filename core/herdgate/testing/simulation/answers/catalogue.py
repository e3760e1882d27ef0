"""What a backend tells about itself and its models."""

from datetime import UTC, datetime

from herdgate.testing.simulation.answers.ask import Ask, Refused
from herdgate.testing.simulation.models import SimModel
from herdgate.testing.simulation.reply import JSON, TEXT, Reply, whole
from herdgate.testing.simulation.wire import native
from herdgate.testing.simulation.wire.generation import encode
from herdgate.testing.simulation.wire.native import NATIVE
from herdgate.testing.simulation.wire.openai import OPENAI

_DISPLAY = "model '{display}' not found"  # show normalises the name, unlike generate and chat


def root(_ask: Ask) -> Reply:
    """``GET /``: the heartbeat of the command line client."""
    return whole(200, b"Ollama is running", TEXT, NATIVE)


def version(ask: Ask) -> Reply:
    """``GET /api/version``."""
    return _json({"version": ask.world.behaviour.version})


def status(ask: Ask) -> Reply:
    """``GET /api/status``."""
    off = not ask.world.behaviour.cloud
    return _json({"cloud": {"disabled": off, "source": "env" if off else "none"}})


def tags(ask: Ask) -> Reply:
    """``GET /api/tags``, newest first."""
    return _json({"models": [native.tag(model) for model in _newest_first(ask)]})


def ps(ask: Ask) -> Reply:
    """``GET /api/ps``."""
    instances = ask.world.memory.listed()
    entries = [native.running(each, datetime.fromtimestamp(each.expires_at, UTC).isoformat()) for each in instances]
    return _json({"models": entries})


def show(ask: Ask) -> Reply:
    """``POST /api/show``."""
    name = ask.text("model") or ask.text("name")
    if not name:
        raise Refused(400, "model is required")
    return _json(native.show(ask.model(name, _DISPLAY)))


def openai_list(ask: Ask) -> Reply:
    """``GET /v1/models``; Go writes an empty list as null."""
    entries = [_openai_entry(model, model.display) for model in _newest_first(ask)]
    return whole(200, encode({"object": "list", "data": entries or None}), "application/json", OPENAI)


def openai_model(ask: Ask) -> Reply:
    """``GET /v1/models/NAME``, which echoes the name as requested."""
    name = ask.head.path.removeprefix("/v1/models/")
    model = ask.model(name, _DISPLAY)
    return whole(200, encode(_openai_entry(model, name)), "application/json", OPENAI)


def _openai_entry(model: SimModel, shown: str) -> dict[str, object]:
    *_, owner, _ = ("library/" + model.display).split("/")
    created = int(datetime.fromisoformat(model.modified_at).timestamp())
    return {"id": shown, "object": "model", "created": created, "owned_by": owner}


def _newest_first(ask: Ask) -> list[SimModel]:
    return sorted(ask.world.models, key=lambda model: datetime.fromisoformat(model.modified_at), reverse=True)


def _json(value: object) -> Reply:
    return whole(200, encode(value), JSON, NATIVE)
