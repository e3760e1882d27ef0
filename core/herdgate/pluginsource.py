"""Find the class that one `use` of `plugins.toml` names: an installed entry point, a module's class, or a file's."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

GROUP = "herdgate.plugins"

FAILURES = (Exception, SystemExit)
"""What a plugin's own code may raise while it is loaded: `sys.exit()` in it is not to end whoever loads it."""

_IMPORTLIB = str(Path(importlib.__file__).parent)


@dataclass(frozen=True, slots=True)
class Found:
    """A class that may be a plugin: the name it goes by, and who brought it."""

    name: str
    cls: type
    distribution: str
    version: str = ""


class Unusable(Exception):  # noqa: N818 - an answer, not an error of ours
    """Why one entry cannot be used, one text per problem."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Sources:
    """Where plugins come from, for one load: what is installed is looked up once, and a file is run once.

    Two classes of one file thus share their module.
    """

    def __init__(self) -> None:
        self._points: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=GROUP):
            self._points.setdefault(point.name, []).append(point)
        self._files: dict[Path, ModuleType] = {}

    def warm(self, uses: Iterable[str]) -> None:
        """Import what these name, in whatever thread this is, so that `find` need not. What is wrong is for `find` to
        say.
        """
        for use in uses:
            with contextlib.suppress(Unusable):
                self.find(use)

    def find(self, use: str) -> Found:
        """The class that `use` names. Raises Unusable."""
        location, colon, attribute = use.rpartition(":")
        if not colon:
            return self._installed(use)
        if not location or not attribute.isidentifier():
            raise Unusable('write an entry point, "package.module:Class", or "./file.py:Class"')
        module = self._file(Path(location)) if location.endswith(".py") else _module(location)
        cls = getattr(module, attribute, None)
        if not inspect.isclass(cls):
            raise Unusable(f"{location} has no class {attribute}{_classes_of(module)}")
        return Found(name_of_class(attribute), cls, location)

    def _installed(self, use: str) -> Found:
        points = self._points.get(use, [])
        if not points:
            known = ", ".join(sorted(self._points)) or "none"
            raise Unusable(f"no installed plugin has this name. Installed: {known}")
        if len(points) > 1:
            owners = " and ".join(str(point.dist.name if point.dist else point.value) for point in points)
            raise Unusable(
                f'is offered by {owners}; name the one you mean as "package.module:Class", or uninstall the other'
            )
        (point,) = points
        try:
            cls = point.load()
        except FAILURES as error:
            raise Unusable(_not_imported(point.value, error)) from error
        if not inspect.isclass(cls):
            raise Unusable(f"the entry point {point.value} is not a class")
        if point.dist is None:
            return Found(use, cls, point.value)
        metadata = point.dist.metadata  # is read anew each time
        return Found(use, cls, metadata["Name"], metadata["Version"])

    def _file(self, path: Path) -> ModuleType:
        path = path.resolve()
        if path not in self._files:
            self._files[path] = _run(path)
        return self._files[path]


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except FAILURES as error:
        raise Unusable(_not_imported(name, error)) from error


def _run(path: Path) -> ModuleType:
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a name is too long
        raise Unusable(f"there is no file {path}")
    name = f"herdgate_file_plugin_{path.stem}_{abs(hash(path))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Unusable(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)  # there is one when the configuration is reloaded
    sys.modules[name] = module  # dataclasses and pydantic look their module up there
    try:
        spec.loader.exec_module(module)
    except FAILURES as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise Unusable(_not_imported(str(path), error)) from error
    return module


def _not_imported(what: str, error: BaseException) -> str:
    """The message for an import that failed, with the place in the plugin's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = (frame for frame in frames if frame.filename != __file__ and not _of_importlib(frame.filename))
    place = next((f" ({frame.filename}, line {frame.lineno})" for frame in own), "")
    return f"{what} cannot be imported: {type(error).__name__}: {error}{place}"


def _of_importlib(filename: str) -> bool:
    return filename.startswith(("<frozen importlib", _IMPORTLIB))


def _classes_of(module: Any) -> str:
    """A hint for a misspelt class: the plugins that the module does have."""
    names = [name for name, value in vars(module).items() if inspect.isclass(value) and hasattr(value, "herdgate_api")]
    return f"; it has {', '.join(names)}" if names else ""


def name_of_class(name: str) -> str:
    """What a plugin is called that is named by its class: the class in snake_case."""
    return "".join(f"_{char.lower()}" if char.isupper() and index else char.lower() for index, char in enumerate(name))
