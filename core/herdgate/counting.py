"""How many tokens a request to `/v1/messages` may have. An estimate: no Ollama counts, and no tokenizer is here."""

from __future__ import annotations

from herdgate.body import Body

_COUNTED = ("system", "messages", "tools")
_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_IMAGE = 1500
"""Roughly what Anthropic counts for an image of its largest size."""


def estimated_tokens(body: Body) -> int:
    """A quarter of the characters of system prompt, messages and tools, and a flat number for each image.

    Raises BadBody.
    """
    characters, images = 0, 0
    waiting = [body.value(name) for name in _COUNTED]
    while waiting:
        match waiting.pop():
            case str(text):
                characters += len(text)
            case list(items):
                waiting += items
            case {"type": "image"}:
                images += 1
            case dict(fields):
                waiting += [value for key, value in fields.items() if key not in {"type", "role", "id"}]
    return images * _TOKENS_PER_IMAGE + -(-characters // _CHARACTERS_PER_TOKEN)
