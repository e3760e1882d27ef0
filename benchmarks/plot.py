"""Draw the figures to watch as a picture: `python plot.py RESULTS.json PICTURE.svg`. Nothing has to be installed."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

from bench.report import WATCHED, Row
from bench.results import Results, load
from bench.systems import DIRECT, HERDGATE, NGINX

WIDTH, LABELS, MARGIN = 760, 130, 20
BAR, GAP, HEAD = 20, 6, 44
TIMES = "\N{MULTIPLICATION SIGN}"
OWN, OTHER, NGINX_LINE, INK, PAPER = "#0b7285", "#adb5bd", "#c92a2a", "#212529", "#ffffff"


def drawn(results: Results) -> str:
    """An SVG: for each of the watched figures a bar for each system, on a logarithmic scale from nginx's cost on."""
    panels = [(row, bars) for row in WATCHED if (bars := _bars(results, row))]
    most = max((value for _, bars in panels for _, value in bars), default=10.0)
    scale = max(10.0, 10 ** math.ceil(math.log10(most)))
    parts, top = [], MARGIN + 22
    for row, bars in panels:
        parts += [_text(MARGIN, top + 18, f"CPU time for {row.label}", bold=True), *_axis(top + 26, len(bars), scale)]
        for number, (name, value) in enumerate(bars):
            parts.append(_bar(top + HEAD + number * (BAR + GAP), name, value, scale))
        top += HEAD + len(bars) * (BAR + GAP) + 26
    title = _text(MARGIN, MARGIN + 4, f"Multiples of nginx's CPU time, logarithmic. {results.date}, {results.machine}")
    shape = f'viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" font-size="13"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {shape}>'
    paper = f'<rect width="{WIDTH}" height="{top}" fill="{PAPER}"/>'
    return "\n".join([head, paper, title, *parts, "</svg>", ""])


def _bars(results: Results, row: Row) -> list[tuple[str, float]]:
    names = [name for name in results.systems() if name not in (DIRECT, NGINX)]
    ratios = [(name, results.ratio(name, NGINX, row.phase, row.figure)) for name in names]
    return sorted([(name, ratio) for name, ratio in ratios if ratio], key=lambda bar: bar[1])


def _x(value: float, scale: float) -> float:
    """Where a value ends: half of nginx's cost is the left edge."""
    span = WIDTH - LABELS - 2 * MARGIN - 60
    return LABELS + MARGIN + span * math.log(max(value, 0.5) / 0.5) / math.log(scale / 0.5)


def _axis(top: float, count: int, scale: float) -> Iterator[str]:
    bottom = top + 18 + count * (BAR + GAP)
    for power in range(round(math.log10(scale)) + 1):
        x, ink = _x(10**power, scale), NGINX_LINE if power == 0 else OTHER
        yield f'<line x1="{x:.1f}" y1="{top + 14}" x2="{x:.1f}" y2="{bottom}" stroke="{ink}" stroke-dasharray="3 3"/>'
        label = "nginx" if power == 0 else f"{10**power:,}{TIMES}"
        yield f'<text x="{x:.1f}" y="{top + 10}" text-anchor="middle" font-size="11" fill="{INK}">{label}</text>'


def _bar(y: float, name: str, value: float, scale: float) -> str:
    left, right = _x(0.5, scale), _x(value, scale)
    fill = OWN if name == HERDGATE else OTHER
    label = f'<text x="{LABELS + MARGIN - 8}" y="{y + 15}" text-anchor="end" fill="{INK}">{escape(name)}</text>'
    bar = f'<rect x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="{BAR}" fill="{fill}"/>'
    return f'{label}{bar}<text x="{right + 5:.1f}" y="{y + 15}" fill="{INK}">{value:,.1f}{TIMES}</text>'


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}"{weight} fill="{INK}">{escape(text)}</text>'


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Path(sys.argv[2]).write_text(drawn(load(Path(sys.argv[1]))), "utf-8")
