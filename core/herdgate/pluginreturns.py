"""What a method returns, as far as its code says so: an author without a type checker learns it at the start."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from herdgate.hooks import INFO, Kind


def wrong_returns(hook: str, method: Any) -> Iterator[tuple[str, int]]:
    """Returns of what the hook never accepts, a constant or an object of another class, each with its line."""
    expects = INFO[hook].expects
    if object in expects or INFO[hook].kind is Kind.GATHER or inspect.isgeneratorfunction(inspect.unwrap(method)):
        return
    for statement, line in _returns(method):
        found = _class_of(statement, getattr(method, "__globals__", {}))
        if found is not None and not issubclass(found, expects):
            names = ", ".join(each.__name__ for each in expects)
            yield f"returns {ast.unparse(statement):.40}, but {hook} may return {names} or None", line


def _returns(method: Any) -> Iterator[tuple[ast.expr, int]]:
    """The returned expressions of a method itself, not of what is defined in it."""
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(method))
        (function,) = ast.parse(textwrap.dedent("".join(lines))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return  # no source: made by other code
    waiting: list[ast.AST] = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Return) and node.value is not None:
            yield from ((value, first + node.lineno - 1) for value in _alternatives(node.value))
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def _alternatives(value: ast.expr) -> list[ast.expr]:
    return [*_alternatives(value.body), *_alternatives(value.orelse)] if isinstance(value, ast.IfExp) else [value]


def _class_of(value: ast.expr, known: dict[str, Any]) -> type | None:
    """The class of what an expression gives; None if only running it would tell, or if it gives None."""
    match value:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=constant):
            return type(constant)
        case ast.Dict() | ast.Set() | ast.JoinedStr():
            return {ast.Dict: dict, ast.Set: set, ast.JoinedStr: str}[type(value)]
        case ast.Call(func=ast.Name(id=name)) if inspect.isclass(known.get(name)):
            cls = known[name]
            return cls if cls.__module__.startswith("herdgate.") else None
        case _:
            return None
