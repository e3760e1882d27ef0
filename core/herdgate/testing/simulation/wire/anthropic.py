"""The Anthropic dialect of ``/v1/messages`` (Ollama ≥ 0.14)."""

from herdgate.testing.simulation.reply import Dialect
from herdgate.testing.simulation.wire.generation import Generation, encode
from herdgate.testing.simulation.wire.openai import named

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def _error(status: int, text: str) -> bytes:
    error = {"type": _TYPES.get(status, "api_error"), "message": text}
    return encode({"type": "error", "error": error, "request_id": "req_" + "0" * 24})


def _late(_text: str) -> tuple[bytes, ...]:
    return ()


ANTHROPIC = Dialect(_error, _late)


def whole(generation: Generation) -> dict[str, object]:
    """The ``message`` object."""
    return {
        "id": f"msg_{generation.number:024x}",
        "type": "message",
        "role": "assistant",
        "model": generation.model,
        "content": [{"type": "text", "text": generation.text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": generation.prompt_tokens, "output_tokens": generation.tokens},
    }


def stream(generation: Generation) -> tuple[bytes, ...]:
    """The events of a streamed message, in order; Ollama never sends a ``ping``."""
    start = {**whole(generation), "content": [], "stop_reason": None}
    start["usage"] = {"input_tokens": generation.prompt_tokens, "output_tokens": 0}
    deltas = ({"index": 0, "delta": {"type": "text_delta", "text": word}} for word in generation.words)
    return (
        named("message_start", {"message": start}),
        named("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *(named("content_block_delta", delta) for delta in deltas),
        named("content_block_stop", {"index": 0}),
        named(
            "message_delta",
            {
                "delta": {"stop_reason": "end_turn"},
                "usage": {"input_tokens": generation.prompt_tokens, "output_tokens": generation.tokens},
            },
        ),
        named("message_stop", {}),
    )
