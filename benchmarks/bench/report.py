"""Results as Markdown: tables for people, and their place in a document. Pure but for the document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.results import NOISE, Results
from bench.systems import DIRECT, HERDGATE, NGINX
from bench.variants import PHASES, VARIANTS, Variant

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_NONE = "\N{EN DASH}"


@dataclass(frozen=True)
class Row:
    """One line of a table: which figure of which phase."""

    phase: str
    figure: str
    label: str
    digits: int = 0
    compared: bool = False
    """Whether the quotient to nginx is shown beside it."""


WATCHED = (
    Row("c32", "cpu_us", "a small request, 32 connections"),
    Row("p200", "cpu_us", "a chunk, 200 streams"),
    Row("p1000", "cpu_us", "a chunk, 1,000 streams"),
)
OWN = tuple(row for row in WATCHED if row.phase in PHASES)
"""Those of them that are measured of the variants of Herdgate."""

ROWS = (
    Row("start", "seconds", "start to the first reply, s", 2),
    Row("start", "memory_mb", "memory after it, MB"),
    Row("c1", "p50_us", "1 connection: p50, µs"),
    Row("c1", "cpu_us", "1 connection: CPU per request, µs", 1, compared=True),
    Row("c32", "rps", "32 connections: requests/s", compared=True),
    Row("c32", "cpu_us", "32 connections: CPU per request, µs", 1, compared=True),
    Row("c32", "p99_ms", "32 connections: p99, ms", 1),
    Row("c128", "rps", "128 connections: requests/s", compared=True),
    Row("c128", "cpu_us", "128 connections: CPU per request, µs", 1, compared=True),
    Row("c128", "p99_ms", "128 connections: p99, ms", 1),
    Row("unpaced", "chunks_s", "64 unpaced streams: chunks/s", compared=True),
    Row("unpaced", "cpu_us", "64 unpaced streams: CPU per chunk, µs", 2, compared=True),
    *(
        Row(phase, figure, f"{label}: {what}", digits, compared)
        for phase, label in (("p200", "200 streams"), ("p1000", "1,000 streams"))
        for figure, what, digits, compared in (
            ("cpu_us", "CPU per chunk, µs", 1, True),
            ("ttft_p99_ms", "time to first chunk, p99, ms", 1, False),
            ("lag_p99_ms", "delay of a chunk, p99, ms", 1, False),
        )
    ),
    Row("p1000", "memory_mb", "1,000 streams: memory, MB"),
    Row("burst", "ttft_p50_ms", "1,000 streams at once: time to first chunk, p50, ms"),
    Row("burst", "ttft_p99_ms", "1,000 streams at once: time to first chunk, p99, ms"),
    Row("body", "p50_ms", "10 MB body: p50, ms", 1),
    Row("body", "cpu_us", "10 MB body: CPU, µs"),
)

TROUBLE = (
    ("calm", "none: all are well"),
    ("slow", "another backend takes a second, 64 requests wait on it"),
    ("dies", "the first one is killed in the middle"),
    ("dead", "the first one's process is gone"),
    ("off", "the first one's machine is off"),
)


def markdown(results: Results) -> str:
    """The whole report."""
    tables = [_watched(results), _everything(results), _variants(results), _trouble(results)]
    parts = [_heading(results), *tables, _remarks(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def inserted(document: str, report: str) -> str:
    """The document with the report between its two markers. Raises ValueError if it does not have them."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there must be a line {BEGIN} and, after it, a line {END}")
    return f"{before}{BEGIN}\n\n{report}\n{END}{after}"


def compared(results: Results) -> list[str]:
    """The systems that stand beside each other; variants of them have a table of their own."""
    return [name for name in results.systems() if name not in VARIANTS]


def insert(path: Path, report: str) -> None:
    """The same in a file."""
    path.write_text(inserted(path.read_text("utf-8"), report), "utf-8")


def _heading(results: Results) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    settings = "; ".join(f"{name}: {value}" for name, value in results.settings.items())
    count = len(results.rounds)
    rounds = "One round." if count == 1 else f"Medians of {count} rounds."
    return f"{results.date}, {results.machine}. {versions}. {rounds} {settings[:1].upper()}{settings[1:]}.".strip()


def _watched(results: Results) -> str:
    systems = [name for name in compared(results) if name not in (DIRECT, NGINX)]
    lines = [[name, *(_multiple(results, name, row) for row in WATCHED)] for name in systems]
    shown = [line for line in lines if any(cell != _NONE for cell in line[1:])]
    heads = ["CPU time, as a multiple of nginx's, for", *(row.label for row in WATCHED)]
    return _table(heads, shown) if shown else ""


def _multiple(results: Results, system: str, row: Row) -> str:
    ratio = results.ratio(system, NGINX, row.phase, row.figure)
    return _NONE if ratio is None else _times(ratio) + _flag(results, system, row)


def _everything(results: Results) -> str:
    systems = compared(results)
    lines = [[row.label, *(_cell(results, name, row) for name in systems)] for row in ROWS]
    shown = [line for line in lines if any(cell != _NONE for cell in line[1:])]
    return _table(["", *systems], shown) if shown else ""


def _cell(results: Results, system: str, row: Row) -> str:
    value = results.median(system, row.phase, row.figure)
    if value is None:
        return "failed" if results.failure(system, row.phase) else _NONE
    has_ratio = row.compared and system not in (DIRECT, NGINX)
    ratio = results.ratio(system, NGINX, row.phase, row.figure) if has_ratio else None
    beside = f" ({_times(ratio)})" if ratio is not None else ""
    return f"{value:,.{row.digits}f}{beside}{_flag(results, system, row)}"


def _flag(results: Results, system: str, row: Row) -> str:
    complete = results.median(system, row.phase, "complete")
    cut = " †" if complete is not None and complete < 1 and row.phase != "unpaced" else ""
    return cut + (" !" if results.disturbed(system, row.phase) else "")


def _variants(results: Results) -> str:
    lines = [_variant_line(results, name, variant) for name, variant in VARIANTS.items()]
    shown = [line for line in lines if any(cell != _NONE for cell in line[2:])]
    heads = [f"{HERDGATE}, CPU time as a multiple of its own without", "promised", *(row.label for row in OWN)]
    return _table(heads, shown) if shown else ""


def _variant_line(results: Results, name: str, variant: Variant) -> list[str]:
    promised = f"at most {_times(variant.promise, 2)}" if variant.promise else _NONE
    return [variant.label, promised, *(_against_plain(results, name, variant, row) for row in OWN)]


def _against_plain(results: Results, name: str, variant: Variant, row: Row) -> str:
    """The ratio, and whether it is more than was promised: as it is shown, so that nobody has to guess at digits."""
    ratio = results.ratio(name, variant.plain, row.phase, row.figure)
    if ratio is None:
        return "failed" if results.failure(name, row.phase) else _NONE
    missed = " missed" if variant.promise and round(ratio, 2) > variant.promise else ""
    doubts = _flag(results, name, row) + _flag(results, variant.plain, row)  # a quotient has those of both
    return _times(ratio, 2) + missed + "".join(sign for sign in (" †", " !") if sign in doubts)


def _trouble(results: Results) -> str:
    lines = [line for phase, label in TROUBLE if (line := _trouble_line(results, phase, label))]
    times = ["p50, ms", "p99, ms", "added, p50, ms", "added, p99, ms"]
    heads = [f"{HERDGATE}: the trouble of a backend", "requests", "failed", *times]
    return _table(heads, lines) if lines else ""


def _trouble_line(results: Results, phase: str, label: str) -> list[str]:
    if failure := results.failure(HERDGATE, phase):
        return [f"{label} (no figures: {failure.splitlines()[0]})", *[_NONE] * 6]
    counts = [results.median(HERDGATE, phase, figure) for figure in ("requests", "failures")]
    if counts[0] is None:
        return []
    own = [results.median(HERDGATE, phase, figure) for figure in ("p50_ms", "p99_ms")]
    added = [results.added(HERDGATE, phase, "calm", figure) for figure in ("p50_ms", "p99_ms")]
    times = [*own, *(added if phase != "calm" else (None, None))]
    flag = " !" if results.disturbed(HERDGATE, phase) else ""
    return [label + flag, *(_number(value, 0) for value in counts), *(_number(value, 2) for value in times)]


def _remarks(results: Results) -> str:
    return "\n".join(f"- {remark}" for remark in _each_remark(results))


def _each_remark(results: Results) -> Iterator[str]:
    for system in results.systems():
        for phase in dict.fromkeys(row.phase for row in ROWS):
            complete = results.median(system, phase, "complete")
            if complete is not None and complete < 1 and phase != "unpaced":
                share = f"{complete:.1%} of the streams were complete in time"
                yield f"† {system}, `{phase}`: {share}; its figures are of what arrived."
            if failure := results.failure(system, phase):
                yield f"{system}, `{phase}`, failed: {failure.splitlines()[0]}"
    measured = list(results.all_measurements())
    if disturbed := sum(m.foreign > NOISE for m in measured):
        yield (
            f"! {disturbed} of {len(measured)} measurements were disturbed: other programs kept more than "
            f"{NOISE:g} cores busy. Repeat them on a quiet machine before you believe or quote them."
        )
    yield from results.notes


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("--:" for _ in heads[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *lines))


def _times(ratio: float, digits: int | None = None) -> str:
    """With so many decimals, or by default as many as a comparison of different programs deserves."""
    if digits is None:
        text = f"{ratio:.2g}" if ratio < 1 else f"{ratio:,.{1 if ratio < 100 else 0}f}"
    else:
        text = f"{ratio:.{digits}f}"
    return f"{text}\N{MULTIPLICATION SIGN}"


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:,.{digits}f}"
