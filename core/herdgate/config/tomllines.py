"""Which line of a TOML file each key is on.

`tomllib` gives no positions, and tomlkit, which keeps the text, gives none for its items either. So the keys are found
by a scanner of its own. It may be simple because it only sees text that `tomllib` has accepted: it never has to notice
an error, only to know where strings, arrays and tables begin and end.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[int | str, ...]

_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*""""{0,2}'
    r"|'''(?:[^']|'(?!''))*''''{0,2}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, counted from 1, of every table, key and list element of a valid TOML text."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._array_lengths: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._next("[["):
                table = self._array_header()
            elif self._next("["):
                table = self._header()
            else:
                self._assignment(table)
            self._skip(_BLANK)
        return self._lines

    def _next(self, mark: str) -> bool:
        return self._text.startswith(mark, self._at)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise AssertionError(f"tomllib accepts what this scanner does not, at line {self._line()}")
        self._at = match.end()
        return match.group()

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _note(self, path: Path, line: int) -> None:
        self._lines.setdefault(path, line)

    def _header(self) -> Path:
        line = self._line()
        self._at += 1
        path: Path = ()
        for part in self._key():
            path = self._entered((*path, part), line)
        self._at += 1
        return path

    def _array_header(self) -> Path:
        line = self._line()
        self._at += 2
        *parents, last = self._key()
        path: Path = ()
        for part in parents:
            path = self._entered((*path, part), line)
        array = (*path, last)
        index = self._array_lengths.get(array, 0)
        self._array_lengths[array] = index + 1
        self._note(array, line)
        self._note((*array, index), line)
        self._at += 2
        return (*array, index)

    def _entered(self, path: Path, line: int) -> Path:
        """Return the table a header's key leads to: for an array of tables its newest element."""
        self._note(path, line)
        return (*path, self._array_lengths[path] - 1) if path in self._array_lengths else path

    def _key(self) -> list[str]:
        """Read a key with its dots, up to but without the `=` or `]` after it."""
        parts = []
        while True:
            self._skip(_BLANK)
            quoted = self._next('"') or self._next("'")
            part = self._skip(_STRING if quoted else _BARE_KEY)
            parts.append(tomllib.loads(f"key = {part}")["key"] if quoted else part)
            self._skip(_BLANK)
            if not self._next("."):
                return parts
            self._at += 1

    def _assignment(self, table: Path) -> None:
        line = self._line()
        path = table
        for part in self._key():
            path = (*path, part)
            self._note(path, line)
        self._at += 1
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._next("["):
            self._array(path)
        elif self._next("{"):
            self._inline_table(path)
        elif self._next('"') or self._next("'"):
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while not self._closes("]"):
            self._note((*path, index), self._line())
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while not self._closes("}"):
            self._assignment(path)

    def _closes(self, bracket: str) -> bool:
        """Go on to the next element of an array or inline table, or past its end."""
        self._skip(_BLANK)
        if self._next(","):
            self._at += 1
            self._skip(_BLANK)
        if self._next(bracket):
            self._at += 1
            return True
        return False
