"""Find the plugins that `plugins.toml` lists, check them against the contract, put them in order, compile their hooks.

Every mistake is found before the first request, and all of them are reported at once. The order is the operator's:
what pluggy offers to plugins to move themselves forward or back is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy
from pydantic import BaseModel, ValidationError

from herdgate.config import ConfigError, PluginEntry, Problem, settings_problems
from herdgate.hookpoints import Impl
from herdgate.hooks import API, INFO, PROJECT, Hooks, Kind, signature_of

GROUP = "herdgate.plugins"
_ORDERING = ("tryfirst", "trylast", "wrapper", "hookwrapper", "optionalhook")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that is loaded: what it is called, where it comes from, and its instance."""

    name: str
    instance: object = field(repr=False)
    distribution: str
    version: str
    origin: str
    impls: dict[str, Impl] = field(default_factory=dict, repr=False)

    @property
    def advisory(self) -> bool:
        """Whether it declared that requests go on without it when it fails."""
        return bool(getattr(self.instance, "advisory", False))


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    cls: type
    distribution: str
    version: str


class _Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """Why one entry cannot be used, one text per problem."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def load_plugins(entries: Sequence[PluginEntry]) -> tuple[Plugin, ...]:
    """Load what the operator listed, in that order.

    Raises ConfigError with every problem of every entry.
    """
    available: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        available.setdefault(point.name, []).append(point)
    plugins: list[Plugin] = []
    problems: list[Problem] = []
    for entry in entries:
        try:
            plugin = _load(entry, available)
            _refuse_duplicate(plugin, plugins)
            plugins.append(plugin)
        except ConfigError as error:
            problems.extend(error.problems)
        except _Refused as refused:
            problems.extend(Problem(entry.origin, f'plugin "{entry.use}"', problem) for problem in refused.problems)
    if problems:
        raise ConfigError(problems)
    return tuple(plugins)


def impls_of(plugins: Sequence[Plugin], hook: str) -> list[Impl]:
    """Who implements a hook, in the operator's order."""
    return [plugin.impls[hook] for plugin in plugins if hook in plugin.impls]


def _load(entry: PluginEntry, available: dict[str, list[EntryPoint]]) -> Plugin:
    found = _find(entry.use, available)
    _check_class(found.cls)
    instance = _instantiate(found, entry)
    plugin = Plugin(found.name, instance, found.distribution, found.version, entry.origin)
    plugin.impls.update(_compile(plugin))
    return plugin


def _refuse_duplicate(plugin: Plugin, earlier: Sequence[Plugin]) -> None:
    for other in earlier:
        if other.name == plugin.name:
            raise _Refused(
                f"is already loaded at {other.origin}: {other.distribution} and {plugin.distribution} both bring a "
                f"plugin of this name; remove one of the two entries"
            )


# finding


def _find(use: str, available: dict[str, list[EntryPoint]]) -> _Found:
    location, colon, attribute = use.rpartition(":")
    if not colon:
        return _find_entry_point(use, available)
    if not attribute.isidentifier():
        raise _Refused('write an entry point, "package.module:Class", or "./file.py:Class"')
    module = _import_file(location) if location.endswith(".py") else _import_module(location)
    cls = getattr(module, attribute, None)
    if not inspect.isclass(cls):
        classes = [
            name for name, value in vars(module).items() if inspect.isclass(value) and hasattr(value, "herdgate_api")
        ]
        hint = f"; it has {', '.join(classes)}" if classes else ""
        raise _Refused(f"{location} has no class {attribute}{hint}")
    return _Found(_snake(attribute), cls, location, "")


def _find_entry_point(use: str, available: dict[str, list[EntryPoint]]) -> _Found:
    points = available.get(use, [])
    if not points:
        known = ", ".join(sorted(available)) or "none"
        raise _Refused(f"no installed plugin has this name. Installed: {known}")
    if len(points) > 1:
        owners = " and ".join(str(point.dist.name if point.dist else point.value) for point in points)
        raise _Refused(
            f'is offered by {owners}; name the one you mean as "package.module:Class", or uninstall the other'
        )
    point = points[0]
    try:
        cls = point.load()
    except Exception as error:
        raise _Refused(f"{point.value} cannot be imported: {type(error).__name__}: {error}") from error
    if not inspect.isclass(cls):
        raise _Refused(f"the entry point {point.value} is not a class")
    return _Found(use, cls, point.dist.name if point.dist else point.value, point.dist.version if point.dist else "")


def _import_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise _Refused(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _import_file(location: str) -> Any:
    path = Path(location)
    if not path.is_file():
        raise _Refused(f"there is no file {path}")
    name = f"herdgate_file_plugin_{path.stem}_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _Refused(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _Refused(f"{path} cannot be imported: {type(error).__name__}: {error}{_line_in(error, path)}") from error
    return module


def _line_in(error: Exception, path: Path) -> str:
    trace, line = error.__traceback__, 0
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""


def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() and index else char.lower() for index, char in enumerate(name))


# checking


def _check_class(cls: type) -> None:
    api = getattr(cls, "herdgate_api", None)
    if api is None:
        raise _Refused(f"add the line `herdgate_api = {API}` to class {cls.__name__}: the API it is written for")
    if api != API:
        raise _Refused(f"is written for API {api!r}; this Herdgate has API {API}")


def _instantiate(found: _Found, entry: PluginEntry) -> object:
    model = getattr(found.cls, "Settings", None)
    try:
        if model is None:
            if entry.settings:
                raise _Refused(f"has no settings, but the file gives {', '.join(entry.settings)}")
            return found.cls()
        if not (inspect.isclass(model) and issubclass(model, BaseModel)):
            raise _Refused("its nested class Settings must be a pydantic BaseModel")
        _refuse_unknown_settings(model, entry)
        return found.cls(model.model_validate(dict(entry.settings)))
    except ValidationError as error:
        assert model is not None  # noqa: S101 - only its validation raises this
        raise ConfigError(settings_problems(error, entry, model)) from error
    except _Refused:
        raise
    except Exception as error:
        raise _Refused(f"could not be created: {type(error).__name__}: {error}") from error


def _refuse_unknown_settings(model: type[BaseModel], entry: PluginEntry) -> None:
    """An unknown key is an error whatever the model's own `extra` says, unless it says "allow": typos must not pass."""
    if model.model_config.get("extra") == "allow":
        return
    known = set(model.model_fields) | {info.alias for info in model.model_fields.values() if info.alias}
    unknown = [key for key in entry.settings if key not in known]
    if unknown:
        raise _Refused(
            *(f"unknown setting {key}; it has {', '.join(sorted(known)) or 'no settings'}" for key in unknown)
        )


def _compile(plugin: Plugin) -> dict[str, Impl]:
    cls = type(plugin.instance)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    problems = list(_misuses(cls))
    if problems:
        raise _Refused(*problems)
    try:
        manager.register(plugin.instance, name=plugin.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise _Refused(_explain(cls, error)) from error
    impls = {}
    for caller in manager.get_hookcallers(plugin.instance) or ():
        impl = caller.get_hookimpls()[0]
        impls[caller.name] = Impl(
            plugin=plugin.name,
            call=_bind(impl.function, tuple(impl.argnames), signature_of(caller.name)),
            is_async=_is_async(impl.function),
            advisory=plugin.advisory and INFO[caller.name].advisory,
            discloses=bool(getattr(plugin.instance, "discloses", False)),
        )
    if not impls:
        raise _Refused(f"class {cls.__name__} implements no hook: put @hookimpl on a method named like one")
    return impls


def _misuses(cls: type) -> list[str]:
    problems = []
    for name, method in inspect.getmembers(cls, callable):
        options = getattr(method, f"{PROJECT}_impl", None)
        if options is None:
            if name in INFO:
                problems.append(f"{cls.__name__}.{name} is named like a hook but lacks @hookimpl")
            continue
        used = [option for option in _ORDERING if options.get(option)]
        if used:
            problems.append(
                f"{cls.__name__}.{name} uses {used[0]}: the order belongs to the operator's plugins.toml alone; "
                f"write plain @hookimpl"
            )
        hook = options.get("specname") or name
        if hook in INFO and INFO[hook].kind is not Kind.CONTEXTS and INFO[hook].sync and _is_async(method):
            problems.append(f"{cls.__name__}.{name} is async, but {hook} is a sync hook: use def")
        if hook in INFO and INFO[hook].kind in {Kind.CONTEXTS, Kind.GATHER} and _is_async(method):
            problems.append(f"{cls.__name__}.{name} is async: use def, or def with @asynccontextmanager")
    return problems


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function)


def _explain(cls: type, error: pluggy.PluginValidationError) -> str:
    """What pluggy found, in words that say where and what to do."""
    for name, method in inspect.getmembers(cls, callable):
        options = getattr(method, f"{PROJECT}_impl", None)
        if options is None:
            continue
        hook = options.get("specname") or name
        if hook not in INFO:
            import difflib

            near = difflib.get_close_matches(hook, INFO, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(INFO)}"
            return f"{cls.__name__}.{name}: there is no hook {hook}{hint}"
        allowed = signature_of(hook)
        wrong = [argument for argument in inspect.signature(method).parameters if argument not in {"self", *allowed}]
        if wrong:
            return f"{cls.__name__}.{name} asks for {', '.join(wrong)}; {hook} offers {', '.join(allowed)}"
    return str(error)


def _bind(function: Callable[..., Any], wanted: tuple[str, ...], offered: tuple[str, ...]) -> Callable[..., Any]:
    """The method as a callable that takes all of the hook's arguments in the hook's order."""
    if wanted == offered:
        return function
    places = [offered.index(argument) for argument in wanted]
    if len(places) == 1:
        only = places[0]
        return lambda *args: function(args[only])
    return lambda *args: function(*[args[place] for place in places])
