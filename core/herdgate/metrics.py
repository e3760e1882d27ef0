"""What is measured, as Prometheus reads it. Pure: numbers in, text out.

The text format is version 0.0.4 of Prometheus' exposition formats. It is small enough that a library would be more to
read than this; and what counts here are plain dictionaries, which cost a request less than a library's counters do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WORKER = "worker"
"""The label that tells the processes of one gateway apart; no metric has one of that name."""

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that is measured, with all its values.

    `labels` are the names of what the values are told apart by, and each key of `values` has one text for each of them:
    `labels=("backend",)`, `values={("gpu1",): 3}`; without labels the one key is `()`. A counter only ever grows while
    the process lives, and its name ends in `_total`. Raises ValueError.
    """

    name: str
    about: str
    kind: Literal["counter", "gauge"]
    values: Mapping[Any, float] = field(hash=False)
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.labels):
            if not _NAME.fullmatch(name) or name == WORKER:
                raise ValueError(f"{name!r} is not the name of a metric or a label")
        if self.kind not in {"counter", "gauge"}:
            raise ValueError(f"{self.name} is a counter or a gauge, not {self.kind!r}")
        if (self.kind == "counter") != self.name.endswith("_total"):
            raise ValueError(f"{self.name}: the names of counters end in _total, and no others")
        for key in self.values:
            if not isinstance(key, tuple) or len(key) != len(self.labels):
                raise ValueError(f"{self.name} has {len(self.labels)} labels, and a value for {key!r}")


Measured = Mapping[str, Sequence[Metric]]
"""The metrics of each process of a gateway, by the name of the process; no name if there is only one."""


def render(measured: Measured) -> bytes:
    """The page that Prometheus reads."""
    lines: list[str] = []
    families: dict[str, list[tuple[str, Metric]]] = {}
    for worker, metrics in measured.items():
        for metric in metrics:
            families.setdefault(metric.name, []).append((worker, metric))
    for name, family in families.items():
        first = family[0][1]
        lines.append(f"# HELP {name} {_escaped(first.about)}")
        lines.append(f"# TYPE {name} {first.kind}")
        for worker, metric in family:
            lines.extend(_lines(metric, worker))
    return "".join(f"{line}\n" for line in lines).encode()


def _lines(metric: Metric, worker: str) -> Iterable[str]:
    for key, value in metric.values.items():
        pairs = [*zip(metric.labels, key, strict=True), *([(WORKER, worker)] if worker else [])]
        labels = ",".join(f'{label}="{_quoted(str(text))}"' for label, text in pairs)
        yield f"{metric.name}{f'{{{labels}}}' if labels else ''} {_number(value)}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
