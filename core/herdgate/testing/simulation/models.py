"""The models a simulated backend has on disk, and those it has in memory."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from herdgate.names import InvalidModelName, ModelName


@dataclass(frozen=True)
class SimModel:
    """A model of a simulated backend. Equal names have equal digests on all backends, as after a pull."""

    name: str
    digest: str = ""
    """64 hex digits without a prefix; empty: made from the name."""
    size: int = 1_300_000_000
    capabilities: tuple[str, ...] = ("completion", "tools")
    modified_at: str = "2026-01-02T03:04:05.678901234Z"
    family: str = "llama"
    parameter_size: str = "1B"
    context_length: int = 8192
    embedding_length: int = 16
    remote_host: str = ""
    """Set for a stub: a name whose prompts the backend sends to another server."""
    remote_model: str = ""

    def __post_init__(self) -> None:
        if not self.digest:
            digest = hashlib.sha256(ModelName.parse(self.name).key.encode()).hexdigest()
            object.__setattr__(self, "digest", digest)

    @property
    def display(self) -> str:
        """The name as ``/api/tags`` shows it."""
        return ModelName.parse(self.name).display

    @property
    def key(self) -> str:
        """The canonical name."""
        return ModelName.parse(self.name).key


class ModelStore:
    """The installed models; a look-up ignores case and fills in defaults, as Ollama does."""

    def __init__(self, *models: str | SimModel) -> None:
        self._models: dict[str, SimModel] = {}
        self.add(*models)

    def add(self, *models: str | SimModel) -> None:
        """Install models, replacing those of the same name. Raises InvalidModelName."""
        for model in models:
            made = SimModel(model) if isinstance(model, str) else model
            self._models[made.key] = made

    def remove(self, *names: str) -> None:
        """Delete models. Raises KeyError for one that is not installed."""
        for name in names:
            del self._models[ModelName.parse(name).key]

    def find(self, name: str) -> SimModel | None:
        """The installed model of that name. Raises InvalidModelName."""
        return self._models.get(ModelName.parse(name).key)

    def __contains__(self, name: str) -> bool:
        try:
            return self.find(name) is not None
        except InvalidModelName:
            return False

    def __iter__(self) -> Iterator[SimModel]:
        return iter(list(self._models.values()))

    def __len__(self) -> int:
        return len(self._models)


@dataclass
class Instance:
    """A model in memory, until ``expires_at`` (seconds since 1970)."""

    model: SimModel
    expires_at: float


@dataclass
class Memory:
    """Which models are in memory, by key."""

    instances: dict[str, Instance] = field(default_factory=dict)

    def keep(self, model: SimModel, seconds: float) -> None:
        """Have ``model`` in memory for ``seconds`` from now; 0 throws it out."""
        if seconds == 0:
            self.instances.pop(model.key, None)
        else:
            self.instances[model.key] = Instance(model, time.time() + seconds)

    def has(self, model: SimModel) -> bool:
        """Whether ``model`` is in memory."""
        return any(instance.model.key == model.key for instance in self.listed())

    def listed(self) -> list[Instance]:
        """What is in memory, longest life first."""
        now = time.time()
        self.instances = {key: instance for key, instance in self.instances.items() if instance.expires_at > now}
        return sorted(self.instances.values(), key=lambda instance: -instance.expires_at)
