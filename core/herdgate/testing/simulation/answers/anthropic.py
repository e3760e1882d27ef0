"""Inference in the Anthropic dialect: ``POST /v1/messages``."""

from typing import Any

from herdgate.testing.simulation.answers.ask import Ask, Refused
from herdgate.testing.simulation.answers.openai import JSON, SSE, UNBUFFERED, conversation, required_model, text_of
from herdgate.testing.simulation.reply import Reply
from herdgate.testing.simulation.wire import anthropic
from herdgate.testing.simulation.wire.anthropic import ANTHROPIC
from herdgate.testing.simulation.wire.generation import encode


def messages(ask: Ask) -> Reply:
    """``POST /v1/messages``."""
    said: list[Any] = ask.typed("messages", list, [])
    if not ask.text("model"):
        raise Refused(400, "model is required")
    if ask.typed("max_tokens", int, 0) <= 0:
        raise Refused(400, "max_tokens is required and must be positive")
    if not said:
        raise Refused(400, "messages is required")
    model = required_model(ask)
    last, prompt = conversation(said)
    generation = ask.generation(model, last, text_of(ask.fields.get("system", "")) + " " + prompt)
    if ask.streams(default=False):
        events = anthropic.stream(generation)
        return Reply(200, SSE, events, ANTHROPIC, streaming=True, headers=UNBUFFERED, loads=model)
    return Reply(200, JSON, (encode(anthropic.whole(generation)),), ANTHROPIC, loads=model)
