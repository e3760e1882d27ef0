"""What changes a backend: pull, push, create, copy, delete, blobs. Enough to see what a gateway lets through."""

import hashlib
import re
from dataclasses import replace

from herdgate.names import InvalidModelName, ModelName
from herdgate.testing.simulation.answers.ask import Ask, Refused
from herdgate.testing.simulation.answers.native import empty
from herdgate.testing.simulation.models import SimModel
from herdgate.testing.simulation.reply import Reply, whole
from herdgate.testing.simulation.wire.generation import encode
from herdgate.testing.simulation.wire.native import NATIVE, NDJSON, line


def _named(ask: Ask) -> str:
    """The model of a management request; the old field ``name`` still counts (ollama-js sends only that)."""
    name = ask.text("model") or ask.text("name")
    try:
        ModelName.parse(name)
    except InvalidModelName:
        raise Refused(400, "invalid model name") from None
    return name


def _progress(ask: Ask, *steps: dict[str, object]) -> Reply:
    """Status lines, or with ``stream: false`` the last of them; a failure is then a 500."""
    if ask.streams(default=True):
        return Reply(200, NDJSON, tuple(line(step) for step in steps), NATIVE, streaming=True)
    last = steps[-1]
    return whole(500 if "error" in last else 200, encode(last), "application/json", NATIVE)


def pull(ask: Ask) -> Reply:
    """``POST /api/pull``: what the simulated registry has is installed at once; the progress lines are for show."""
    name = _named(ask)
    model = SimModel(name)
    known = {ModelName.parse(each).key for each in ask.world.behaviour.registry}
    start: dict[str, object] = {"status": "pulling manifest"}
    if model.key not in known and name not in ask.world.models:
        return _progress(ask, start, {"error": "pull model manifest: file does not exist"})
    ask.world.models.add(model)
    layer: dict[str, object] = {"status": f"pulling {model.digest[:12]}", "digest": f"sha256:{model.digest}"}
    amounts = [{**layer, "total": model.size, "completed": model.size * part // 4} for part in range(5)]
    ends: list[dict[str, object]] = [
        {"status": text} for text in ("verifying sha256 digest", "writing manifest", "success")
    ]
    return _progress(ask, start, *amounts, *ends)


def push(ask: Ask) -> Reply:
    """``POST /api/push``."""
    if not (ask.text("model") or ask.text("name")):
        raise Refused(400, "model is required")
    name = _named(ask)
    start: dict[str, object] = {"status": "retrieving manifest"}
    if name not in ask.world.models:
        path = f"/simulated/manifests/{ModelName.parse(name).display}"
        return _progress(ask, start, {"error": f"open {path}: no such file or directory"})
    return _progress(ask, start, {"status": "pushing manifest"}, {"status": "success"})


def create(ask: Ask) -> Reply:
    """``POST /api/create`` from an installed model, or from files of which nothing is checked."""
    name, source = _named(ask), ask.text("from")
    if not source and not ask.fields.get("files"):
        raise Refused(400, "neither 'from' or 'files' was specified")
    if source and source not in ask.world.models:
        return _progress(ask, {"error": "pull model manifest: file does not exist"})
    base = ask.world.models.find(source) if source else None
    digest = hashlib.sha256(ask.body).hexdigest()
    ask.world.models.add(replace(base, name=name, digest=digest) if base else SimModel(name, digest=digest))
    return _progress(ask, {"status": "writing manifest"}, {"status": "success"})


def copy(ask: Ask) -> Reply:
    """``POST /api/copy``."""
    for field in ("source", "destination"):
        try:
            ModelName.parse(ask.text(field))
        except InvalidModelName:
            raise Refused(400, f'{field} "{ask.text(field)}" is invalid') from None
    source = ask.world.models.find(ask.text("source"))
    if source is None:
        raise Refused(404, f'model "{ask.text("source")}" not found')
    ask.world.models.add(replace(source, name=ask.text("destination")))
    return empty()


def delete(ask: Ask) -> Reply:
    """``DELETE /api/delete``; an instance in memory stays there."""
    name = ask.text("model") or ask.text("name")
    if not name:
        raise Refused(400, "model is required")
    try:
        ModelName.parse(name)
    except InvalidModelName:
        raise Refused(400, f'name "{name}" is invalid') from None
    if name not in ask.world.models:
        raise Refused(404, f"model '{name}' not found")
    ask.world.models.remove(name)
    return empty()


def blob(ask: Ask) -> Reply:
    """``HEAD`` and ``POST /api/blobs/DIGEST``."""
    digest = ask.head.path.removeprefix("/api/blobs/")
    if re.fullmatch(r"sha256[:-][0-9a-fA-F]{64}", digest) is None:
        raise Refused(400, "invalid digest format")
    here = digest in ask.world.blobs
    if ask.head.method == "HEAD":
        return whole(200 if here else 404, b"", "", NATIVE)
    actual = "sha256:" + hashlib.sha256(ask.body).hexdigest()
    if not here and actual != digest:
        raise Refused(400, f'digest mismatch, expected "{digest}", got "{actual}"')
    ask.world.blobs.add(digest)
    return whole(200 if here else 201, b"", "", NATIVE)


def account(_ask: Ask) -> Reply:
    """The owner's account at ollama.com: nobody is signed in."""
    return whole(
        401, encode({"error": "unauthorized", "signin_url": "https://ollama.com/connect"}), "application/json", NATIVE
    )


def web(_ask: Ask) -> Reply:
    """Web search and fetch: off, as the cloud is."""
    raise Refused(403, "ollama cloud is disabled: web search is unavailable")
