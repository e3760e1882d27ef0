"""Calls in a plugin's hooks that make the event loop wait, found by reading its code."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import NamedTuple

BLOCKING = {
    "time.sleep": "await asyncio.sleep, in an async def",
    "os.system": "asyncio.create_subprocess_shell",
    "os.popen": "asyncio.create_subprocess_shell",
    "subprocess.run": "asyncio.create_subprocess_exec",
    "subprocess.call": "asyncio.create_subprocess_exec",
    "subprocess.check_call": "asyncio.create_subprocess_exec",
    "subprocess.check_output": "asyncio.create_subprocess_exec",
    "socket.create_connection": "asyncio.open_connection",
    "socket.gethostbyname": "loop.getaddrinfo",
    "socket.getaddrinfo": "loop.getaddrinfo",
    "urllib.request.urlopen": "httpx.AsyncClient",
    "sqlite3.connect": "asyncio.to_thread",
    "input": "nothing: nobody is there to answer",
    **{
        f"requests.{verb}": "httpx.AsyncClient"
        for verb in ("get", "post", "put", "delete", "head", "request", "Session")
    },
    **{f"httpx.{verb}": "httpx.AsyncClient" for verb in ("get", "post", "put", "delete", "head", "request", "Client")},
}
"""What blocks, and what to use instead."""
_AT_START = {"lifespan", "backend_sources", "routes"}
"""Hooks that run when nobody waits yet."""
_CALLED_BY_THE_CORE = {"feed", "finish", "list"}
"""Methods of what plugins return: filters and sources."""


class Blocking(NamedTuple):
    """A call that blocks: where, what, and what to do."""

    line: int
    text: str


def blocking_calls(tree: ast.Module) -> Iterator[Blocking]:
    """Every call that blocks in a hook, or in what a hook calls in the same file."""
    names = _imported(tree)
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    reached: dict[str, str] = {name: name for name, node in functions.items() if _is_entered(node)}
    waiting = list(reached)
    while waiting:
        name = waiting.pop()
        for called in _used(functions[name]):
            if called in functions and called not in reached:
                reached[called] = reached[name]
                waiting.append(called)
    for name, hook in reached.items():
        for node in _nodes(functions[name]):
            full = _full_name(node.func, names) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and full in BLOCKING:
                yield Blocking(node.lineno, f"{hook} calls {full}, which blocks every request; use {BLOCKING[full]}")


def _is_entered(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    marked = any("hookimpl" in ast.unparse(decorator) for decorator in node.decorator_list)
    return node.name in _CALLED_BY_THE_CORE or (marked and node.name not in _AT_START)


def _nodes(function: ast.AST) -> Iterator[ast.AST]:
    """What a function does itself: not what is defined in it, and not what it has a thread do."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("to_thread", "run_in_executor")):
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def _used(function: ast.AST) -> Iterator[str]:
    """Names that may be functions: called, or handed on to be called."""
    for node in _nodes(function):
        match node:
            case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name):
                yield name


def _imported(tree: ast.Module) -> Mapping[str, str]:
    """What the names of a file stand for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def _full_name(func: ast.expr, names: Mapping[str, str]) -> str:
    match func:
        case ast.Name(id=name):
            return names.get(name, name)
        case ast.Attribute(value=value, attr=attribute):
            return f"{_full_name(value, names)}.{attribute}"
        case _:
            return ""
