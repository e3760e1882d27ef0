"""The line of every key of a TOML text."""

import tomllib
from textwrap import dedent
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from herdgate.config.tomllines import lines_of

_KEYS = st.one_of(st.sampled_from(["a", "b", "a-b", "server"]), st.text(max_size=6))
_SCALARS = st.none().flatmap(
    lambda _: st.integers(-9, 9) | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8) | st.datetimes()
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)


def paths_of(value: Any, path: tuple[int | str, ...] = ()) -> set[tuple[int | str, ...]]:
    here = {path} if path else set()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return here.union(*(paths_of(item, (*path, key)) for key, item in items))


@settings(deadline=None)
@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_every_path_of_a_document_has_a_line_and_nothing_else_has(document: dict[str, Any]) -> None:
    text = tomlkit.dumps(document)
    assert lines_of(text).keys() == paths_of(tomllib.loads(text))


@settings(deadline=None)
@given(tables=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=8), crlf=st.booleans())
def test_lines_are_those_on_which_each_table_was_written(tables: list[tuple[str, int]], crlf: bool) -> None:
    lines: list[str] = []
    expected: dict[tuple[int | str, ...], int] = {}
    count = dict.fromkeys("abc", 0)
    for name, blank in tables:
        lines += ["# [[x]] y = '''"] * blank + [
            f"[[{name}]]",
            f'text = """{name}',
            '[[c]] = "',
            '"""',
            "k = [",
            "1,",
            "2]",
        ]
        start = len(lines) - 6
        path = (name, count[name])
        expected |= {path: start, (*path, "text"): start + 1, (*path, "k"): start + 4, (*path, "k", 1): start + 6}
        count[name] += 1
    text = ("\r\n" if crlf else "\n").join(lines)
    assert tomllib.loads(text).keys() == {name for name, _ in tables}
    found = lines_of(text)
    assert {path: found[path] for path in expected} == expected


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1\n\n# c\nb = 2", ("b",), 4),
        ("a.b.c = 1\na.b.d = 2", ("a", "b", "d"), 2),
        ("a.b.c = 1\na.b.d = 2", ("a", "b"), 1),
        ("[ a . 'b c' ]\n\"x.y\" = 1", ("a", "b c", "x.y"), 2),
        ('[t]\n"k\\u0041" = 1', ("t", "kA"), 2),
        ("a = { b = 1, c = { d = [\n1, # ] }\n{ e = 2 },\n] } }\nz = 3", ("a", "c", "d", 1, "e"), 3),
        ("a = { b = 1, c = { d = [\n1, # ] }\n{ e = 2 },\n] } }\nz = 3", ("z",), 5),
        ("a = []\nb = {}\nc = 1", ("c",), 3),
        ("a = '''x''y'''''\nb = 1", ("b",), 2),
        ('a = """x""y"""""\nb = 1', ("b",), 2),
        ('a = """\\\n  x \\"""" # "\nb = 1', ("b",), 3),
        ("a = 'C:\\'\nb = 1", ("b",), 2),
        ('a = "\\\\"\nb = 1', ("b",), 2),
        ("a = 1979-05-27 07:32:00 # x\nb = 1", ("b",), 2),
        ("[[f]]\n[[f.g]]\nx=1\n[[f.g]]\nx=2\n[[f]]\n[f.h]\ny=1", ("f", 0, "g", 1, "x"), 5),
        ("[[f]]\n[[f.g]]\nx=1\n[[f.g]]\nx=2\n[[f]]\n[f.h]\ny=1", ("f", 1, "h", "y"), 8),
        ("[a.b]\nx=1\n[a]\ny=1", ("a",), 1),
        ("[a.b]\nx=1\n[a]\ny=1", ("a", "y"), 4),
    ],
)
def test_the_corners_of_toml(text: str, path: tuple[int | str, ...], line: int) -> None:
    found = lines_of(text)
    assert found.keys() == paths_of(tomllib.loads(text))
    assert found[path] == line


def test_an_empty_text_has_no_lines() -> None:
    assert lines_of("") == lines_of(dedent("\n  # nothing\n")) == {}
