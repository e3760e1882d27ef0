"""Everything that decides a simulated backend's answers, apart from the network."""

from dataclasses import dataclass, field
from typing import TypedDict

from herdgate.testing.simulation.models import Memory, ModelStore


class Options(TypedDict, total=False):
    """The keyword arguments that `SimulatedOllama` takes besides name, models and address; see `Behaviour`."""

    pace: float
    reply_words: int | None
    load_time: float
    auth_token: str | None
    version: str
    cloud: bool
    registry: tuple[str, ...]


@dataclass(kw_only=True)
class Behaviour:
    """How the backend behaves. May be changed at any time and counts from the next request on."""

    pace: float = 0.0
    """Seconds between two events of a stream."""
    reply_words: int | None = None
    """Words of each reply; None: as many as the text has."""
    load_time: float = 0.0
    """Seconds it takes to load a model that is not in memory; ``/api/ps`` waits meanwhile (Ollama ≥ 0.32.4)."""
    auth_token: str | None = field(default=None, repr=False)
    """Every request without ``Authorization: Bearer`` and this token gets 401, as from a proxy in front of Ollama."""
    version: str = "0.32.15"
    cloud: bool = False
    """Whether names with a cloud suffix are answered; otherwise 403, as with ``OLLAMA_NO_CLOUD``."""
    registry: tuple[str, ...] = ()
    """Models that can be pulled."""


@dataclass
class World:
    """One backend: its name, its models on disk and in memory, and its behaviour."""

    name: str
    models: ModelStore
    behaviour: Behaviour
    memory: Memory = field(default_factory=Memory)
    blobs: set[str] = field(default_factory=set)
    served: int = 0
    """Inference requests so far; makes ids."""

    def words(self, echo: str) -> tuple[str, ...]:
        """The reply to ``echo``, the last user message: one event's text after the other."""
        words = f"Hello from simulated backend {self.name}. You said: {echo}".split()
        wanted = self.behaviour.reply_words
        if wanted is not None:
            words = [*words, *(f"word{i}" for i in range(len(words) + 1, wanted + 1))][:wanted]
        return tuple(word + " " for word in words[:-1]) + tuple(words[-1:])
