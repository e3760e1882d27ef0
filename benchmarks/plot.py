"""Draw the figures to watch as a picture: `python plot.py RESULTS.json PICTURE.svg`. Nothing has to be installed."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bench.report import WATCHED, Row, compared
from bench.results import Results, load
from bench.systems import HERDGATE, NGINX

WIDTH, LABELS, MARGIN = 760, 130, 20
BAR, GAP, HEAD = 20, 6, 44
TIMES = "\N{MULTIPLICATION SIGN}"
OWN, OTHER, NGINX_LINE, INK, PAPER = "#0b7285", "#adb5bd", "#c92a2a", "#212529", "#ffffff"


@dataclass(frozen=True)
class Bar:
    """One system's cost."""

    name: str
    value: float
    complete: bool

    @property
    def label(self) -> str:
        """What stands behind the bar."""
        return f"{self.value:,.{1 if self.value < 100 else 0}f}{TIMES}" + ("" if self.complete else " †")


def drawn(results: Results) -> str:
    """An SVG: for each of the watched figures a bar for each system, on a logarithmic scale."""
    panels = [(row, bars) for row in WATCHED if (bars := _bars(results, row))]
    scale = max(10.0, *(10 ** math.ceil(math.log10(bar.value)) for _, bars in panels for bar in bars), 0.0)
    parts = [
        _text(MARGIN, MARGIN + 8, "CPU time as a multiple of nginx's, logarithmic", bold=True),
        _text(MARGIN, MARGIN + 28, f"{results.date}, {results.machine}", size=11),
        _text(MARGIN, MARGIN + 44, "† not all of its streams were complete in time", size=11),
    ]
    top = MARGIN + 64
    for row, bars in panels:
        parts += [_text(MARGIN, top + 18, row.label), *_axis(top + 26, len(bars), scale)]
        parts += [_bar(top + HEAD + number * (BAR + GAP), bar, scale) for number, bar in enumerate(bars)]
        top += HEAD + len(bars) * (BAR + GAP) + 22
    shape = f'viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" font-size="13"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {shape}>'
    paper = f'<rect width="{WIDTH}" height="{top}" fill="{PAPER}"/>'
    return "\n".join([head, paper, *parts, "</svg>", ""])


def _bars(results: Results, row: Row) -> list[Bar]:
    bars = []
    for name in compared(results):
        ratio = results.ratio(name, NGINX, row.phase, row.figure)
        if ratio and name != NGINX:
            complete = results.median(name, row.phase, "complete")
            bars.append(Bar(name, ratio, complete is None or complete == 1))
    return sorted(bars, key=lambda bar: bar.value)


def _x(value: float, scale: float) -> float:
    """Where a bar ends; half of nginx's cost is the left edge."""
    span = WIDTH - LABELS - 2 * MARGIN - 60
    return LABELS + MARGIN + span * math.log(max(value, 0.5) / 0.5) / math.log(scale / 0.5)


def _axis(top: float, count: int, scale: float) -> Iterator[str]:
    bottom = top + 18 + count * (BAR + GAP)
    for power in range(round(math.log10(scale)) + 1):
        x, ink = _x(10**power, scale), NGINX_LINE if power == 0 else OTHER
        yield f'<line x1="{x:.1f}" y1="{top + 14}" x2="{x:.1f}" y2="{bottom}" stroke="{ink}" stroke-dasharray="3 3"/>'
        label = "nginx" if power == 0 else f"{10**power:,}{TIMES}"
        yield f'<text x="{x:.1f}" y="{top + 10}" text-anchor="middle" font-size="11" fill="{INK}">{label}</text>'


def _bar(y: float, bar: Bar, scale: float) -> str:
    left, right = _x(0.5, scale), _x(bar.value, scale)
    name = f'<text x="{LABELS + MARGIN - 8}" y="{y + 15}" text-anchor="end" fill="{INK}">{escape(bar.name)}</text>'
    fill = OWN if bar.name == HERDGATE else OTHER
    shape = f'<rect x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="{BAR}" fill="{fill}"/>'
    return f"{name}{shape}{_text(round(right + 5), y + 15, bar.label)}"


def _text(x: float, y: float, text: str, *, bold: bool = False, size: int = 13) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}"{weight} fill="{INK}">{escape(text)}</text>'


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Path(sys.argv[2]).write_text(drawn(load(Path(sys.argv[1]))), "utf-8")
