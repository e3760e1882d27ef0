"""Load the plugins that `plugins.toml` lists: find them, check them, make them, keep them in the operator's order.

Every mistake is found before the first request, and all of them are reported at once. The order is the operator's:
what pluggy offers to plugins to move themselves forward or back is refused.
"""

from __future__ import annotations

import inspect
import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pydantic import AliasChoices, AliasPath, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from herdgate.config import ConfigError, PluginEntry, Problem, settings_problems
from herdgate.hooks import INFO, deprecation
from herdgate.plugincheck import check_class, compile_hooks, doubts
from herdgate.pluginsource import FAILURES, Found, Sources, Unusable
from herdgate.point import Impl

log = logging.getLogger("herdgate.plugins")

log = logging.getLogger("herdgate.plugins")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that is loaded: what it is called, where it comes from, its instance, what it implements."""

    name: str
    instance: object = field(repr=False)
    distribution: str
    version: str
    origin: str
    impls: dict[str, Impl] = field(repr=False)

    @property
    def advisory(self) -> bool:
        """Whether it declared that requests go on without it when it fails."""
        return bool(getattr(self.instance, "advisory", False))


def load_plugins(entries: Sequence[PluginEntry], sources: Sources | None = None) -> tuple[Plugin, ...]:
    """Load what the operator listed, in that order. `sources` may know more places than what is installed, or have
    imported it already.

    Raises ConfigError with every problem of every entry.
    """
    sources = sources or Sources()
    plugins: list[Plugin] = []
    problems: list[Problem] = []
    for entry in entries:
        try:
            plugin = _load(entry, sources)
            _refuse_duplicate(plugin, plugins)
            plugins.append(plugin)
            for doubt in doubts(type(plugin.instance)):
                log.warning("plugin %s: %s", plugin.name, doubt)
        except ConfigError as error:
            problems.extend(error.problems)
        except Unusable as unusable:
            problems.extend(Problem(entry.origin, f'plugin "{entry.use}"', problem) for problem in unusable.problems)
    if problems:
        raise ConfigError(problems)
    _warn_of_deprecated_hooks(plugins)
    return tuple(plugins)


def _warn_of_deprecated_hooks(plugins: Sequence[Plugin]) -> None:
    """Tell operators; authors are told by Python, where pluggy warns in their tests."""
    for plugin in plugins:
        for hook in plugin.impls:
            if problem := deprecation(hook, INFO[hook]):
                log.warning("plugin %s (%s) must be renewed: %s", plugin.name, plugin.distribution, problem)


def impls_of(plugins: Sequence[Plugin], hook: str) -> list[Impl]:
    """Who implements a hook, in the operator's order."""
    return [plugin.impls[hook] for plugin in plugins if hook in plugin.impls]


def _load(entry: PluginEntry, sources: Sources) -> Plugin:
    found = sources.find(entry.use)
    check_class(found.cls)
    instance = _made(found, entry)
    impls = compile_hooks(found.name, instance)
    return Plugin(found.name, instance, found.distribution, found.version, entry.origin, impls)


def _refuse_duplicate(plugin: Plugin, earlier: Sequence[Plugin]) -> None:
    for other in earlier:
        if other.name == plugin.name:
            raise Unusable(
                f"is already loaded at {other.origin}: {other.distribution} and {plugin.distribution} both bring a "
                f"plugin of the name {plugin.name}; remove one of the two entries"
            )


def _made(found: Found, entry: PluginEntry) -> object:
    """The instance, with its settings if its class has any."""
    model = getattr(found.cls, "Settings", None)
    if model is None:
        if entry.settings:
            raise Unusable(f"has no settings, but the file gives {', '.join(entry.settings)}")
        arguments: tuple[BaseModel, ...] = ()
    elif inspect.isclass(model) and issubclass(model, BaseModel):
        arguments = (_settings(model, entry),)
    else:
        raise Unusable("its nested class Settings must be a pydantic BaseModel")
    try:
        return found.cls(*arguments)
    except FAILURES as error:
        place = _place_of(error, found.cls)
        raise Unusable(
            f"could not be created{place}: {type(error).__name__}: {error}{_hint(found.cls, model)}"
        ) from error


def _place_of(error: BaseException, cls: type) -> str:
    """The last line of the plugin's own file on the way to the error; the class, if the error came before all of it."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    try:
        return f" ({file}:{lines[-1] if lines else inspect.getsourcelines(cls)[1]})"
    except (OSError, TypeError):
        return ""  # no source: made by other code


def _hint(cls: type, model: type[BaseModel] | None) -> str:
    """What to do about a constructor that takes something else than it is given."""
    try:
        inspect.signature(cls).bind(*([] if model is None else [model]))
    except TypeError:
        return "; add `def __init__(self)`" if model is None else "; add `def __init__(self, settings)`"
    except ValueError:
        pass  # it has no signature
    return ""


def _settings(model: type[BaseModel], entry: PluginEntry) -> BaseModel:
    """The entry's settings, read by the plugin's own model. Raises ConfigError with all that is wrong with them.

    An unknown key is an error whatever the model's `extra` says, unless it says "allow": typos must not pass.
    """
    known = {name for field_name, info in model.model_fields.items() for name in _names(field_name, info)}
    if model.model_config.get("extra") == "allow":
        known.update(entry.settings)
    problems = [
        Problem(
            entry.origins.get((key,), entry.origin),
            f'plugin "{entry.use}"',
            f"unknown setting {key}; it has {', '.join(sorted(known)) or 'no settings'}",
        )
        for key in entry.settings
        if key not in known
    ]
    try:
        settings = model.model_validate({key: value for key, value in entry.settings.items() if key in known})
    except ValidationError as error:
        problems.extend(settings_problems(error, entry, model))
    if problems:
        raise ConfigError(problems)
    return settings


def _names(name: str, info: FieldInfo) -> Iterator[str]:
    """The keys under which a field may be given."""
    yield name
    alias = info.validation_alias
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if choice is not None:
            yield str(choice.path[0]) if isinstance(choice, AliasPath) else choice
