"""The events of ``/v1/responses`` (Ollama ≥ 0.13.3): numbered and named, without ``[DONE]``."""

from herdgate.testing.simulation.wire.generation import Generation
from herdgate.testing.simulation.wire.openai import named


def whole(generation: Generation, status: str = "completed") -> dict[str, object]:
    """The ``response`` object of ``/v1/responses``."""
    finished = status == "completed"
    text = {"type": "output_text", "text": generation.text, "annotations": [], "logprobs": []}
    message = _output_item(generation, status, [text])
    counts = {"input_tokens": generation.prompt_tokens, "output_tokens": generation.tokens}
    counts["total_tokens"] = generation.prompt_tokens + generation.tokens
    return {
        "id": f"resp_{generation.number}",
        "object": "response",
        "created_at": generation.seconds,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": generation.model,
        "output": [message] if finished and generation.words else [],
        "usage": counts if finished else None,
    }


def _output_item(generation: Generation, status: str, content: list[object]) -> dict[str, object]:
    item = {"id": f"msg_{generation.number}", "type": "message", "status": status, "role": "assistant"}
    return {**item, "content": content}


def stream(generation: Generation) -> tuple[bytes, ...]:
    """``/v1/responses``, streamed: numbered, named events and no ``[DONE]``."""
    at: dict[str, object] = {"item_id": f"msg_{generation.number}", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    full = {**part, "text": generation.text}
    started: dict[str, object] = {"response": whole(generation, "in_progress")}
    events: list[tuple[str, dict[str, object]]] = [
        ("response.created", started),
        ("response.in_progress", started),
        ("response.output_item.added", {"output_index": 0, "item": _output_item(generation, "in_progress", [])}),
        ("response.content_part.added", {**at, "part": part}),
        *(("response.output_text.delta", {**at, "delta": word, "logprobs": []}) for word in generation.words),
        ("response.output_text.done", {**at, "text": generation.text, "logprobs": []}),
        ("response.content_part.done", {**at, "part": full}),
        ("response.output_item.done", {"output_index": 0, "item": _output_item(generation, "completed", [full])}),
        ("response.completed", {"response": whole(generation)}),
    ]
    return tuple(named(kind, {"sequence_number": i, **fields}) for i, (kind, fields) in enumerate(events))
