"""What commands print: tables for people, JSON for programs. Colour and decoration only on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNBOUNDED = 100_000
"""Columns of what is no terminal: a line that a program reads must not be wrapped or cut."""


def console(*, stderr: bool = False) -> Console:
    """A console that prints texts as they are: nothing in them is markup, an emoji name, or to be highlighted."""
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)
    if not made.is_terminal:
        made.width = _UNBOUNDED
    return made


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(*columns: str) -> Table:
    """A table without lines; `cells` fills its rows. Columns whose title ends in `>` are right-aligned."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    return made


def cells(*values: object, style: str = "") -> Sequence[Text]:
    """The cells of a row."""
    return [Text(clean(in_words(value)), style=style) for value in values]


def in_words(value: object) -> str:
    """A value as people write it; nothing is a dash."""
    match value:
        case None | [] | ():
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def print_table(rows: Table) -> None:
    """A table on stdout, without the blanks with which the last column is filled up."""
    out = console()
    with out.capture() as captured:
        out.print(rows)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def clean(text: str) -> str:
    """The text without control characters: a backend's words must not steer the terminal."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 backend`, `2 backends`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def size(number: int) -> str:
    """Bytes as `ollama list` writes them, in powers of ten."""
    value = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


@contextmanager
def waiting_for(names: Sequence[str]) -> Iterator[Callable[[str], None]]:
    """Say on stderr, if that is a terminal, whose answers are still to come; the function takes one off."""
    err = console(stderr=True)
    if not err.is_terminal:
        yield lambda _: None
        return
    missing = list(names)
    with err.status(_waiting(missing)) as status:

        def answered(name: str) -> None:
            missing.remove(name)
            status.update(_waiting(missing))

        yield answered


def _waiting(names: Sequence[str]) -> str:
    if not names:
        return "Done"
    shown = ", ".join(names[:5])
    return f"Waiting for {shown}{f' and {len(names) - 5} more' if len(names) > 5 else ''} …"
