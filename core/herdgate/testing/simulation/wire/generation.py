"""What a simulated model produced, before it is put into a dialect's words."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

_GO_ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def encode(value: object) -> bytes:
    """JSON as Go writes it: compact, not ASCII-only, but with ``<``, ``>``, ``&``, U+2028 and U+2029 escaped."""
    return (
        json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_GO_ESCAPES).encode("utf-8", "replace")
    )


@dataclass(frozen=True)
class Generation:
    """One finished inference."""

    model: str
    """The name as the client wrote it: replies never normalise it."""
    words: tuple[str, ...]
    prompt_tokens: int
    created: datetime
    number: int
    """Serial number of the inference on its backend; ids are made from it."""
    thinking: tuple[str, ...] = ()
    remote_model: str = ""
    remote_host: str = ""

    @cached_property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.words)

    @property
    def tokens(self) -> int:
        """Tokens produced; each word is one."""
        return len(self.words) + len(self.thinking)

    @property
    def created_at(self) -> str:
        """RFC 3339 in UTC, as the native dialect has it."""
        return self.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    @property
    def seconds(self) -> int:
        """Unix time, as the OpenAI dialect has it."""
        return int(self.created.timestamp())
