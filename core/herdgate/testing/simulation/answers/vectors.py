"""Embeddings: made from a hash of digest and text, so that the same model gives the same vector on every backend."""

import hashlib
import math

from herdgate.testing.simulation.answers.ask import Ask, Refused
from herdgate.testing.simulation.models import SimModel


def inputs(ask: Ask) -> list[str]:
    """The texts to embed; none for an absent or empty ``input``. Raises Refused."""
    value = ask.fields.get("input", "")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refused(400, "invalid input type")
    return [text for text in texts if text or isinstance(value, list)]


def embedding(model: SimModel, text: str) -> list[float]:
    """A vector of length 1."""
    raw = [
        int.from_bytes(hashlib.sha256(f"{model.digest} {i} {text}".encode("utf-8", "replace")).digest()[:4]) / 2**31 - 1
        for i in range(model.embedding_length)
    ]
    length = math.sqrt(sum(x * x for x in raw)) or 1.0
    return [x / length for x in raw]
