"""The native dialect: NDJSON lines and single objects of ``/api/*``."""

from herdgate.testing.simulation.models import Instance, SimModel
from herdgate.testing.simulation.reply import Dialect
from herdgate.testing.simulation.wire.generation import Generation, encode

NDJSON = "application/x-ndjson"
_TOKEN_NS = 1_000_000


def _error(_status: int, text: str) -> bytes:
    return encode({"error": text})


def _late(text: str) -> tuple[bytes, ...]:
    return (line({"error": text}),)


NATIVE = Dialect(_error, _late)


def line(value: object) -> bytes:
    """One line of NDJSON."""
    return encode(value) + b"\n"


def _frame(generation: Generation) -> dict[str, object]:
    frame: dict[str, object] = {"model": generation.model, "created_at": generation.created_at}
    if generation.remote_host:
        frame |= {"remote_model": generation.remote_model, "remote_host": generation.remote_host}
    return frame


def _finish(generation: Generation, reason: str) -> dict[str, object]:
    """The fields of a last line. Durations are nanoseconds; Go leaves out counts that are 0."""
    load, prompt, output = _TOKEN_NS, generation.prompt_tokens * _TOKEN_NS, generation.tokens * _TOKEN_NS
    fields = {
        "total_duration": load + prompt + output,
        "load_duration": load,
        "prompt_eval_count": generation.prompt_tokens,
        "prompt_eval_duration": prompt,
        "eval_count": generation.tokens,
        "eval_duration": output,
    }
    return {"done": True, "done_reason": reason, **{name: value for name, value in fields.items() if value}}


def _message(content: str, thinking: str = "") -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": content}
    if thinking:
        message["thinking"] = thinking
    return {"message": message}


def _response(content: str, thinking: str = "") -> dict[str, object]:
    return {"response": content, **({"thinking": thinking} if thinking else {})}


def _stream(generation: Generation, chat: bool, last: dict[str, object]) -> tuple[bytes, ...]:
    shape = _message if chat else _response
    frame = _frame(generation)
    thoughts = (line({**frame, **shape("", thought), "done": False}) for thought in generation.thinking)
    words = (line({**frame, **shape(word), "done": False}) for word in generation.words)
    return (*thoughts, *words, line({**frame, **shape(""), **last}))


def chat_stream(generation: Generation) -> tuple[bytes, ...]:
    """``/api/chat``: a line for each word, then the final line."""
    return _stream(generation, True, _finish(generation, "stop"))


def chat_whole(generation: Generation) -> bytes:
    """``/api/chat`` with ``stream: false``."""
    shape = _message(generation.text, "".join(generation.thinking))
    return encode({**_frame(generation), **shape, **_finish(generation, "stop")})


def generate_stream(generation: Generation) -> tuple[bytes, ...]:
    """``/api/generate``: as chat, with ``response`` and a final ``context``."""
    return _stream(generation, False, {**_finish(generation, "stop"), "context": _context(generation)})


def generate_whole(generation: Generation) -> bytes:
    """``/api/generate`` with ``stream: false``."""
    shape = _response(generation.text, "".join(generation.thinking))
    return encode({**_frame(generation), **shape, **_finish(generation, "stop"), "context": _context(generation)})


def _context(generation: Generation) -> list[int]:
    return list(range(1, generation.prompt_tokens + generation.tokens + 1))


def loaded(generation: Generation, chat: bool, reason: str) -> bytes:
    """The single object that answers a load or an unload, even of a streaming request."""
    shape = _message("") if chat else _response("")
    return encode({**_frame(generation), **shape, "done": True, "done_reason": reason})


def details(model: SimModel, lengths: bool) -> dict[str, object]:
    """The ``details`` object; ``/api/ps`` has it without the two lengths."""
    fields: dict[str, object] = {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size,
        "quantization_level": "Q4_0",
    }
    return fields | (
        {"context_length": model.context_length, "embedding_length": model.embedding_length} if lengths else {}
    )


def tag(model: SimModel) -> dict[str, object]:
    """An entry of ``/api/tags`` (Ollama ≥ 0.30: with capabilities)."""
    entry: dict[str, object] = {"name": model.display, "model": model.display}
    if model.remote_host:
        entry |= {"remote_model": model.remote_model, "remote_host": model.remote_host}
    entry |= {"modified_at": model.modified_at, "size": model.size, "digest": model.digest}
    entry |= {"details": details(model, lengths=True)}
    return entry | ({"capabilities": list(model.capabilities)} if model.capabilities else {})


def running(instance: Instance, expires_at: str) -> dict[str, object]:
    """An entry of ``/api/ps``."""
    model = instance.model
    return {
        "name": model.display,
        "model": model.display,
        "size": model.size,
        "digest": model.digest,
        "details": details(model, lengths=False),
        "expires_at": expires_at,
        "size_vram": model.size,
        "context_length": model.context_length,
    }


def show(model: SimModel) -> dict[str, object]:
    """The reply of ``/api/show``; it does not name the model."""
    family = model.family
    return {
        "modelfile": f"# Modelfile of a simulated model\nFROM /simulated/blobs/sha256-{model.digest}\n",
        "parameters": 'stop                           "<|end|>"',
        "template": "{{ .Prompt }}",
        "details": details(model, lengths=True),
        **({"remote_model": model.remote_model, "remote_host": model.remote_host} if model.remote_host else {}),
        "model_info": {
            "general.architecture": family,
            "general.parameter_count": 1_000_000_000,
            f"{family}.context_length": model.context_length,
            f"{family}.embedding_length": model.embedding_length,
        },
        "capabilities": list(model.capabilities),
        "modified_at": model.modified_at,
    }
