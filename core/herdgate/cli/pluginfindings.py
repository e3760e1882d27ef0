"""Look for everything that is wrong with one plugin, named as `plugins.toml` would name it, or by its file alone."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from herdgate.cli.pluginblocking import blocking_calls
from herdgate.config import ConfigError, PluginEntry
from herdgate.logs import faults_untold
from herdgate.plugincheck import check_class, doubts
from herdgate.plugins import load_plugins
from herdgate.pluginsource import Sources, Unusable


@dataclass(frozen=True)
class Findings:
    """What is wrong, and what there is to say besides."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def findings(plugin: str, listed: Sequence[PluginEntry]) -> Findings:
    """Check `plugin`. `listed` are the entries of plugins.toml, which give it its settings if it is among them."""
    try:
        found = [_check(use, listed) for use in _uses(plugin)]
    except Unusable as unusable:
        return Findings(tuple(f"{plugin}: {problem}" for problem in unusable.problems))
    return Findings(
        (*(problem for each in found for problem in each.problems), *_doubtful(plugin)),
        tuple(note for each in found for note in each.notes),
    )


def _doubtful(plugin: str) -> list[str]:
    """What the code of the plugin will do wrong when it runs; each file is read once."""
    classes = [cls for use in _uses(plugin) if (cls := _class_of(use)) is not None]
    files = {file: None for cls in classes if (file := _file_of(cls)) is not None}
    return [
        *(doubt for cls in classes for doubt in doubts(cls)),
        *(
            f"{found.text} ({file}, line {found.line})"
            for file in files
            for found in blocking_calls(ast.parse(Path(file).read_bytes(), file))
        ),
    ]


def _class_of(use: str) -> type | None:
    try:
        return Sources().find(use).cls
    except Unusable:
        return None  # told already


def _file_of(cls: type) -> str | None:
    try:
        return inspect.getsourcefile(cls)
    except (TypeError, OSError):
        return None


def _check(use: str, listed: Sequence[PluginEntry]) -> Findings:
    entry = next((entry for entry in listed if entry.use == use), None)
    try:
        if entry is None and (required := _required_settings(use)):
            how = f"a [[plugin]] entry with {' and '.join(required)} in plugins.toml has them checked, too"
            return Findings((), (f"{use}: sound so far, but it needs settings: {how}",))
        with faults_untold():  # what is logged about it is a problem here
            (plugin,) = load_plugins([entry or PluginEntry(use, {}, origin="")])
    except Unusable as unusable:
        return Findings(tuple(f"{use}: {problem}" for problem in unusable.problems))
    except ConfigError as error:
        return Findings(tuple(map(str, error.problems)))
    return Findings((), (f"{plugin.name} implements {', '.join(plugin.impls)}",))


def _required_settings(use: str) -> list[str]:
    """What a plugin cannot be made without, once its class is known to be sound. Raises Unusable."""
    cls = Sources().find(use).cls
    check_class(cls)
    model = getattr(cls, "Settings", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [name for name, field in model.model_fields.items() if field.is_required()]


def _uses(plugin: str) -> list[str]:
    """The plugin as plugins.toml knows it, whose files are absolute. A file alone stands for its plugin classes."""
    if plugin.endswith(".py"):
        path = Path(plugin).resolve()
        return [f"{path}:{name}" for name in _classes(path)]
    location, _, name = plugin.rpartition(":")
    return [f"{Path(location).resolve()}:{name}"] if location.endswith(".py") else [plugin]


def _classes(path: Path) -> list[str]:
    """The classes in a file that are, or want to be, plugins, without running it. Raises Unusable if there are none."""
    try:
        tree = ast.parse(path.read_bytes(), path.name)
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise Unusable(f"is not Python: {error}") from None
    names = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and _is_meant_as_plugin(node)]
    if not names:
        raise Unusable("has no plugin: a class with `herdgate_api = 1` and @hookimpl methods")
    return names


def _is_meant_as_plugin(node: ast.ClassDef) -> bool:
    assigned = {
        target.id
        for line in node.body
        if isinstance(line, ast.Assign | ast.AnnAssign)
        for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
        if isinstance(target, ast.Name)
    }
    decorators = [
        ast.unparse(decorator)
        for line in node.body
        if isinstance(line, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in line.decorator_list
    ]
    return "herdgate_api" in assigned or any("hookimpl" in decorator for decorator in decorators)
