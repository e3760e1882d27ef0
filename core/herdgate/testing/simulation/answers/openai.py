"""Inference in the OpenAI dialect: chat completions, completions, embeddings, responses, transcriptions."""

import base64
import struct
from dataclasses import replace
from email import message_from_bytes
from typing import Any

from herdgate.testing.simulation.answers.ask import Ask, Refused
from herdgate.testing.simulation.answers.native import NOT_PULLED
from herdgate.testing.simulation.answers.vectors import embedding, inputs
from herdgate.testing.simulation.models import SimModel
from herdgate.testing.simulation.reply import Reply
from herdgate.testing.simulation.wire import openai, responses
from herdgate.testing.simulation.wire.generation import encode
from herdgate.testing.simulation.wire.openai import CHAT, OPENAI, TEXT

JSON = "application/json"
SSE = "text/event-stream"
UNBUFFERED = (("Cache-Control", "no-cache"), ("Connection", "keep-alive"))


def required_model(ask: Ask, unknown: str = "model '{name}' not found") -> SimModel:
    """The model; unlike on some native paths its name may not be missing. Raises Refused."""
    if not ask.text("model"):
        raise Refused(400, "model is required")
    return ask.model(ask.text("model"), unknown)


def text_of(content: Any) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Refused(400, f"invalid message content type: {type(content).__name__}")
    return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict)).strip()


def conversation(messages: list[Any]) -> tuple[str, str]:
    """The last user message and the text of all messages."""
    spoken = [(str(m.get("role", "user")), text_of(m.get("content", ""))) for m in messages if isinstance(m, dict)]
    last = next((text for role, text in reversed(spoken) if role == "user"), "")
    return last, " ".join(text for _, text in spoken)


def chat(ask: Ask) -> Reply:
    """``POST /v1/chat/completions``."""
    messages = ask.typed("messages", list, [])
    if not messages:
        raise Refused(400, "[] is too short - 'messages'")
    model = required_model(ask)
    ask.needs(model, "completion", "chat")
    generation = ask.generation(model, *conversation(messages), thinks="thinking" in model.capabilities)
    if ask.streams(default=False):
        return Reply(200, SSE, openai.chat_stream(generation, _wants_usage(ask)), CHAT, streaming=True, loads=model)
    return Reply(200, JSON, (openai.chat_whole(generation),), CHAT, loads=model)


def completions(ask: Ask) -> Reply:
    """``POST /v1/completions``; an empty prompt only loads the model."""
    prompt = ask.text("prompt")
    model = required_model(ask)
    ask.needs(model, "completion", "generate")
    generation = ask.generation(model, prompt, prompt)
    if not prompt:
        generation = replace(generation, words=())
        return Reply(200, JSON, (openai.text_whole(generation, "load"),), TEXT, loads=model)
    if ask.streams(default=False):
        return Reply(200, SSE, openai.text_stream(generation, _wants_usage(ask)), TEXT, streaming=True, loads=model)
    return Reply(200, JSON, (openai.text_whole(generation),), TEXT, loads=model)


def _wants_usage(ask: Ask) -> bool:
    return bool(ask.typed("stream_options", dict, {}).get("include_usage"))


def embeddings(ask: Ask) -> Reply:
    """``POST /v1/embeddings``; the OpenAI SDK asks for base64."""
    texts, coding = inputs(ask), ask.text("encoding_format") or "float"
    if not texts:
        raise Refused(400, "invalid input")
    if coding not in ("float", "base64"):
        raise Refused(400, f"Invalid value for 'encoding_format': {coding}")
    model = required_model(ask, NOT_PULLED)
    data = [
        {"object": "embedding", "embedding": _coded(embedding(model, text), coding), "index": i}
        for i, text in enumerate(texts)
    ]
    tokens = sum(len(text.split()) for text in texts)
    usage = {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    body = encode({"object": "list", "data": data, "model": ask.text("model"), **usage})
    return Reply(200, JSON, (body,), OPENAI, loads=model)


def _coded(vector: list[float], coding: str) -> list[float] | str:
    return vector if coding == "float" else base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def respond(ask: Ask) -> Reply:
    """``POST /v1/responses``; nothing is stored. An empty input only loads the model."""
    value = ask.fields.get("input", "")
    model = required_model(ask)
    said = conversation([{"role": "user", "content": value}] if isinstance(value, str) else value)
    generation = ask.generation(model, *said)
    if not any(said):
        generation = replace(generation, words=())
    if ask.streams(default=False):
        events = responses.stream(generation)
        return Reply(200, SSE, events, OPENAI, streaming=True, headers=UNBUFFERED, loads=model)
    return Reply(200, JSON, (encode(responses.whole(generation)),), OPENAI, loads=model)


def transcribe(ask: Ask) -> Reply:
    """``POST /v1/audio/transcriptions``; like Ollama it labels its answer NDJSON, whatever it is."""
    form = _form(ask)
    name = form.get("model", b"").decode("utf-8", "replace")
    if not name or "file" not in form:
        raise Refused(400, "model is required" if not name else "file is required")
    model = ask.model(name)
    text = f"Hello from simulated backend {ask.world.name}. You sent {len(form['file'])} bytes."
    plain = form.get("response_format") == b"text"
    body = text.encode() if plain else encode({"text": text})
    return Reply(200, "application/x-ndjson", (body,), OPENAI, streaming=True, loads=model)


def _form(ask: Ask) -> dict[str, bytes]:
    """The fields of a multipart body. Raises Refused."""
    kind = next(iter(ask.head.values("content-type")), "")
    message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + ask.body)
    if not message.is_multipart():
        raise Refused(400, "failed to parse multipart form: request Content-Type isn't multipart/form-data")
    fields: dict[str, bytes] = {}
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            fields[name] = content
    return fields
