"""The OpenAI dialect, as Ollama ≥ 0.32.6 speaks it: role once, a finish chunk of its own, errors that vanish."""

from herdgate.testing.simulation.reply import Dialect
from herdgate.testing.simulation.wire.generation import Generation, encode

_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


def _error(status: int, text: str) -> bytes:
    kind = _TYPES.get(status, "api_error")
    return encode({"error": {"message": text, "type": kind, "param": None, "code": None}})


def data(value: object) -> bytes:
    """One SSE event without a name."""
    return b"data: " + encode(value) + b"\n\n"


def named(kind: str, fields: dict[str, object]) -> bytes:
    """One SSE event with a name, which its data repeat as ``type``; the two newer paths have only such."""
    return b"event: %b\n" % kind.encode() + data({"type": kind, **fields})


DONE = b"data: [DONE]\n\n"


def _chat_frame(generation: Generation, model: str, kind: str) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{generation.number % 999}",
        "object": kind,
        "created": generation.seconds,
        "model": model,
        "system_fingerprint": "fp_ollama",
    }


def _text_frame(generation: Generation, model: str) -> dict[str, object]:
    return _chat_frame(generation, model, "text_completion") | {"id": f"cmpl-{generation.number % 999}"}


def _choice(delta: dict[str, object], finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _text_choice(text: str, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"text": text, "index": 0, "finish_reason": finish}]}


def usage(prompt: int, completion: int) -> dict[str, object]:
    """The ``usage`` object."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {"usage": counts}


def _used(generation: Generation) -> dict[str, object]:
    return usage(generation.prompt_tokens, generation.tokens)


def chat_stream(generation: Generation, include_usage: bool) -> tuple[bytes, ...]:
    """``/v1/chat/completions``, streamed, ``[DONE]`` included."""
    frame = _chat_frame(generation, generation.model, "chat.completion.chunk")
    deltas: list[dict[str, object]] = [{"content": "", "reasoning": thought} for thought in generation.thinking]
    deltas += [{"content": word} for word in generation.words]
    deltas[:1] = [{"role": "assistant", **deltas[0]}] if deltas else []
    events = [data({**frame, **_choice(delta)}) for delta in deltas]
    events.append(data({**frame, **_choice({}, "stop")}))
    if include_usage:
        events.append(data({**frame, "choices": [], **_used(generation)}))
    return (*events, DONE)


def chat_whole(generation: Generation) -> bytes:
    """``/v1/chat/completions``, not streamed."""
    message = {"role": "assistant", "content": generation.text}
    if generation.thinking:
        message["reasoning"] = "".join(generation.thinking)
    choices = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return encode({**_chat_frame(generation, generation.model, "chat.completion"), **choices, **_used(generation)})


def text_stream(generation: Generation, include_usage: bool) -> tuple[bytes, ...]:
    """``/v1/completions``, streamed; with ``include_usage`` every chunk has a ``usage``, the last the real one."""
    frame = _text_frame(generation, generation.model)
    zero = usage(0, 0) if include_usage else {}
    events = [data({**frame, **_text_choice(word), **zero}) for word in generation.words]
    events.append(data({**frame, **_text_choice("", "stop"), **zero}))
    if include_usage:
        events.append(data({**frame, "choices": [], **_used(generation)}))
    return (*events, DONE)


def text_whole(generation: Generation, finish: str = "stop") -> bytes:
    """``/v1/completions``, not streamed."""
    return encode(
        {**_text_frame(generation, generation.model), **_text_choice(generation.text, finish), **_used(generation)}
    )


def _late_chat(_text: str) -> tuple[bytes, ...]:
    frame = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": ""}
    return (data({**frame, "system_fingerprint": "fp_ollama", **_choice({"content": ""})}),)


def _late_text(_text: str) -> tuple[bytes, ...]:
    frame = {"id": "cmpl-0", "object": "text_completion", "created": 0, "model": ""}
    return (data({**frame, "system_fingerprint": "fp_ollama", **_text_choice("")}),)


def _late_nothing(_text: str) -> tuple[bytes, ...]:
    return ()


CHAT = Dialect(_error, _late_chat)
TEXT = Dialect(_error, _late_text)
OPENAI = Dialect(_error, _late_nothing)
