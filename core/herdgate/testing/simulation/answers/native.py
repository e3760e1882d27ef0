"""Inference on the native paths: generate, chat, embed, embeddings."""

from typing import Any

from herdgate.testing.simulation.answers import keepalive
from herdgate.testing.simulation.answers.ask import Ask, Refused
from herdgate.testing.simulation.answers.vectors import embedding, inputs
from herdgate.testing.simulation.models import SimModel
from herdgate.testing.simulation.reply import JSON, Reply, whole
from herdgate.testing.simulation.wire import native
from herdgate.testing.simulation.wire.generation import Generation, encode
from herdgate.testing.simulation.wire.native import NATIVE, NDJSON

NOT_PULLED = 'model "{name}" not found, try pulling it first'


def generate(ask: Ask) -> Reply:
    """``POST /api/generate``."""
    name = ask.text("model")
    model = ask.model(name)
    prompt, streams, keep = ask.text("prompt"), ask.streams(default=True), keepalive.seconds(ask)
    ask.needs(model, "completion", "generate")
    if ask.text("suffix") and "insert" not in model.capabilities:
        raise Refused(400, f"registry.ollama.ai/library/{model.display} does not support insert")
    generation = ask.generation(model, prompt, ask.text("system") + " " + prompt, thinks=_thinks(ask, model))
    if not prompt:
        return _load(ask, generation, model, keep, chat=False)
    if streams:
        return _stream(native.generate_stream(generation), model, keep)
    return _whole(native.generate_whole(generation), model, keep)


def chat(ask: Ask) -> Reply:
    """``POST /api/chat``."""
    name = ask.text("model")
    if not name:
        raise Refused(400, "model is required")
    model = ask.model(name)
    messages, streams, keep = _messages(ask), ask.streams(default=True), keepalive.seconds(ask)
    ask.needs(model, "completion", "chat")
    if ask.fields.get("tools") and "tools" not in model.capabilities:
        raise Refused(400, f"registry.ollama.ai/library/{model.display} does not support tools")
    last = next((content for role, content in reversed(messages) if role == "user"), "")
    prompt = " ".join(content for _, content in messages)
    generation = ask.generation(model, last, prompt, thinks=_thinks(ask, model))
    if not messages:
        return _load(ask, generation, model, keep, chat=True)
    if streams:
        return _stream(native.chat_stream(generation), model, keep)
    return _whole(native.chat_whole(generation), model, keep)


def _messages(ask: Ask) -> list[tuple[str, str]]:
    """Role and content of each message."""
    return [_message(message) for message in ask.typed("messages", list, [])]


def _message(message: Any) -> tuple[str, str]:
    content = message.get("content", "") if isinstance(message, dict) else None
    if not isinstance(content, str):
        raise Refused(
            400, "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"
        )
    return str(message.get("role", "")).lower(), content


def _thinks(ask: Ask, model: SimModel) -> bool:
    """Models that can think do so unless told otherwise; the others must not be told to (Ollama ≥ 0.12.5)."""
    can = "thinking" in model.capabilities
    wanted = ask.fields.get("think", can)
    if wanted and not can:
        raise Refused(400, f'"{ask.text("model")}" does not support thinking')
    return bool(wanted)


def _load(ask: Ask, generation: Generation, model: SimModel, keep: float, *, chat: bool) -> Reply:
    """A request without a prompt: loads the model, or throws it out if ``keep_alive`` is 0."""
    if keep == 0:
        ask.world.memory.keep(model, 0)
        return whole(200, native.loaded(generation, chat, "unload"), JSON, NATIVE)
    return _whole(native.loaded(generation, chat, "load"), model, keep)


def _stream(events: tuple[bytes, ...], model: SimModel, keep: float) -> Reply:
    return Reply(200, NDJSON, events, NATIVE, streaming=True, loads=model, keep=keep)


def _whole(body: bytes, model: SimModel, keep: float) -> Reply:
    return Reply(200, JSON, (body,), NATIVE, loads=model, keep=keep)


def embed(ask: Ask) -> Reply:
    """``POST /api/embed``; vectors have length 1."""
    model = ask.model(ask.text("model"), NOT_PULLED if ask.text("model") else "model '{name}' not found")
    texts, keep = inputs(ask), keepalive.seconds(ask)
    reply: dict[str, object] = {"model": ask.text("model"), "embeddings": [embedding(model, text) for text in texts]}
    if texts:
        reply |= {"total_duration": 2_000_000, "load_duration": 1_000_000}
        reply |= {"prompt_eval_count": sum(len(text.split()) for text in texts)}
    return _whole(encode(reply), model, keep)


def embeddings(ask: Ask) -> Reply:
    """``POST /api/embeddings``, the old form: one vector, whose length is not 1."""
    if not ask.text("model"):
        raise Refused(400, "model is required")
    model, prompt, keep = ask.model(ask.text("model"), NOT_PULLED), ask.text("prompt"), keepalive.seconds(ask)
    vector = [round(2 * x, 6) for x in embedding(model, prompt)] if prompt else []
    return _whole(encode({"embedding": vector}), model, keep)


def empty() -> Reply:
    """200 without a body and without a type, as delete and copy answer."""
    return whole(200, b"", "", NATIVE)
