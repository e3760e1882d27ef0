"""Whose code is this: the plugin that a code object, as found on a stack, belongs to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType

from herdgate.plugins import Plugin


class PluginCode:
    """The files of each plugin: its module's own, and the rest of its package."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._files: dict[str, list[tuple[str, str]]] = {}
        self._packages: dict[str, list[str]] = {}
        for plugin in plugins:
            cls = type(plugin.instance)
            file = getattr(sys.modules.get(cls.__module__), "__file__", None)
            if file is None:
                continue
            self._files.setdefault(file, []).append((cls.__qualname__, plugin.name))
            if "." in cls.__module__:
                self._packages.setdefault(str(Path(file).parent), []).append(plugin.name)

    def owners(self, code: CodeType) -> frozenset[str]:
        """The plugin that this code belongs to; several if they share the file or package; none if it is no one's."""
        file = code.co_filename
        if (classes := self._files.get(file)) is not None:
            own = frozenset(name for cls, name in classes if code.co_qualname.startswith(f"{cls}."))
            return own or frozenset(name for _, name in classes)
        for package, names in self._packages.items():
            if file.startswith(f"{package}/"):
                return frozenset(names)
        return frozenset()
