"""Hold one plugin class against the contract in `hooks`, and compile its methods to what the hook points call."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import pluggy

from herdgate.hooks import API, INFO, PROJECT, Hooks, Kind, signature_of
from herdgate.pluginreturns import wrong_returns
from herdgate.pluginsource import Unusable
from herdgate.point import Impl

_ORDERING = ("tryfirst", "trylast", "wrapper", "hookwrapper", "optionalhook")
_NOT_AWAITED = {Kind.CONTEXTS, Kind.GATHER}
_BY_PLACE = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
_STARS = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def check_class(cls: type) -> None:
    """Raise Unusable, with all that is wrong, if a class is no plugin for this API."""
    api = getattr(cls, "herdgate_api", None)
    if api is None:
        what = f"add the line `herdgate_api = {API}` to class {cls.__name__}: the API it is written for"
        raise Unusable(f"{what}{_place(cls)}")
    if api != API:
        raise Unusable(f"is written for API {api!r}; this Herdgate has API {API}{_place(cls)}")
    problems = [
        f"{cls.__name__}.{name} {problem}{_place(method)}"
        for name, method in inspect.getmembers(cls, callable)
        for problem in _wrong(cls, name, method)
    ]
    if problems:
        raise Unusable(*problems)


def doubts(cls: type) -> list[str]:
    """What will be a fault of this class when its code gets there, as far as that can be seen without running it."""
    return [
        f"{cls.__name__}.{name} {problem}{_place(method, line)}"
        for name, method in inspect.getmembers(cls, callable)
        if (hook := _hook_of(name, method)) is not None
        for problem, line in wrong_returns(hook, method)
    ]


def _place(of: Any, line: int | None = None) -> str:
    """Where a class or a method stands, or the line in it, if there is a file."""
    try:
        file = inspect.getsourcefile(of)
        return f" ({file}, line {line or inspect.getsourcelines(of)[1]})"
    except (OSError, TypeError):
        return ""


def _hook_of(name: str, method: Any) -> str | None:
    """The hook that a method implements."""
    options = getattr(method, f"{PROJECT}_impl", None)
    hook = (options.get("specname") or name) if options else None
    return hook if hook in INFO else None


def compile_hooks(name: str, instance: object) -> dict[str, Impl]:
    """The implementations of a checked plugin, by hook. Raises Unusable if there are none."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    manager.register(instance, name=name)
    impls = {}
    for caller in manager.get_hookcallers(instance) or ():
        found = caller.get_hookimpls()
        if len(found) > 1:
            raise Unusable(f"implements {caller.name} {len(found)} times")
        impls[caller.name] = Impl(
            plugin=name,
            call=_bind(found[0].function, tuple(found[0].argnames), signature_of(caller.name)),
            advisory=INFO[caller.name].advisory and bool(getattr(instance, "advisory", False)),
            discloses=bool(getattr(instance, "discloses", False)),
        )
    if not impls:
        raise Unusable(f"class {type(instance).__name__} implements no hook: put @hookimpl on a method named like one")
    return impls


def _wrong(cls: type, name: str, method: Any) -> Iterator[str]:
    """What is wrong with one method, in words that say what to do."""
    options = getattr(method, f"{PROJECT}_impl", None)
    if options is None:
        if name in INFO:
            yield "is named like a hook but lacks @hookimpl"
        return
    used = [option for option in _ORDERING if options.get(option)]
    if used:
        yield f"uses {used[0]}: the order belongs to the operator's plugins.toml alone; write plain @hookimpl"
    hook = options.get("specname") or name
    if hook not in INFO:
        near = difflib.get_close_matches(hook, INFO, n=1)
        yield f"is for a hook {hook}, which does not exist; " + (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(INFO)}"
        )
        return
    yield from _wrong_arguments(
        hook, method, bound=isinstance(inspect.getattr_static(cls, name), staticmethod | classmethod)
    )
    yield from _wrong_kind(hook, method)


def _wrong_arguments(hook: str, method: Any, *, bound: bool) -> Iterator[str]:
    """Whatever would not be filled in: with a default or a star it would go unnoticed that nothing ever is."""
    offered = signature_of(hook)
    arguments = list(inspect.signature(method).parameters.values())
    if not bound:
        first = arguments[0] if arguments else None
        if first is None or first.name in offered or first.kind is first.KEYWORD_ONLY:
            yield "lacks `self`: write it as the first argument"
        elif first.kind in _BY_PLACE:
            del arguments[0]
    stars = [str(argument) for argument in arguments if argument.kind in _STARS]
    if stars:
        yield f"takes {', '.join(stars)}, which would always be empty: name what it needs of {', '.join(offered)}"
    named = [argument for argument in arguments if argument.kind not in _STARS]
    wrong = [argument.name for argument in named if argument.name not in offered]
    if wrong:
        yield f"asks for {', '.join(wrong)}; {hook} offers {', '.join(offered)}"
    for argument in (argument for argument in named if argument.name in offered):
        if argument.kind is argument.KEYWORD_ONLY:
            yield f"asks for {argument.name} by keyword only: take it without `*`"
        if argument.default is not argument.empty:
            yield f"gives {argument.name} a default, which is all it would ever see: write it without one"


def _wrong_kind(hook: str, method: Any) -> Iterator[str]:
    if inspect.isasyncgenfunction(method) or inspect.isgeneratorfunction(method):
        contexts = INFO[hook].kind is Kind.CONTEXTS
        yield "is a generator: " + ("put @asynccontextmanager under @hookimpl" if contexts else "return, do not yield")
    if not inspect.iscoroutinefunction(method):
        return
    if INFO[hook].kind in _NOT_AWAITED:
        yield "is async: use def, or def with @asynccontextmanager"
    elif INFO[hook].sync:
        yield f"is async, but {hook} is a sync hook: use def"


def _bind(function: Callable[..., Any], wanted: tuple[str, ...], offered: tuple[str, ...]) -> Callable[..., Any]:
    """The method as a callable that takes all of the hook's arguments in the hook's order."""
    if wanted == offered:
        return function
    places = [offered.index(argument) for argument in wanted]
    match len(offered), places:  # the usual ones without a tuple in between
        case 2, [0]:
            return lambda first, _: function(first)
        case 2, [1]:
            return lambda _, second: function(second)
        case 3, [2]:
            return lambda _, __, third: function(third)
        case _, []:
            return lambda *_: function()
        case _, [place]:
            return lambda *args: function(args[place])
    chosen = itemgetter(*places)
    return lambda *args: function(*chosen(args))
