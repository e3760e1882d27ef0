"""A plugin for mypy: holds every `@hookimpl` against the contract while the author still types.

    [tool.mypy]
    plugins = ["herdgate.mypy_plugin"]

A method takes only the arguments it needs, so neither a base class nor a Protocol could say what is right; this does.
It reports what the loader would refuse, and besides that arguments and results of a wrong type.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator

from mypy.checker import TypeChecker
from mypy.maptype import map_instance_to_supertype
from mypy.nodes import ARG_NAMED, Decorator, FuncDef, TypeInfo
from mypy.plugin import CheckerPluginInterface, MethodContext, Plugin
from mypy.subtypes import is_subtype
from mypy.types import CallableType, Instance, Type, UnionType, get_proper_type

from herdgate.hooks import INFO, Kind

_MARKER = ".HookimplMarker.__call__"
"""Of pluggy; the module in which it stands differs from version to version."""
_NOT_AWAITED = {Kind.CONTEXTS, Kind.GATHER}


class HerdgatePlugin(Plugin):
    """Called by mypy wherever pluggy's marker is put on something."""

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        """The check, for that marker."""
        return _checked if fullname.startswith("pluggy.") and fullname.endswith(_MARKER) else None


def plugin(version: str) -> type[Plugin]:  # noqa: ARG001 - mypy passes its own
    """What mypy asks this module for."""
    return HerdgatePlugin


def _checked(context: MethodContext) -> Type:
    marked = get_proper_type(context.arg_types[0][0]) if context.arg_types and context.arg_types[0] else None
    if isinstance(context.context, Decorator) and isinstance(marked, CallableType):
        function = context.context.func
        for problem in _problems(context.api, function, marked):
            context.api.fail(f"Hook {function.name}: {problem}", context.context)
    return context.default_return_type


def _problems(api: CheckerPluginInterface, function: FuncDef, marked: CallableType) -> Iterator[str]:
    hook = function.name
    if hook not in INFO:
        near = difflib.get_close_matches(hook, INFO, n=1)
        yield f"there is no hook of this name; {f'did you mean {near[0]}?' if near else ', '.join(INFO)}"
        return
    contract = _contract(api, hook)
    if contract is None:
        return
    yield from _wrong_arguments(contract, marked)
    if function.is_coroutine and not function.is_async_generator and not _may_wait(hook):
        yield "must be a plain def, not async"
        return
    yield from _wrong_results(api, hook, contract, marked)


def _may_wait(hook: str) -> bool:
    return not INFO[hook].sync and INFO[hook].kind not in _NOT_AWAITED


def _contract(api: CheckerPluginInterface, hook: str) -> CallableType | None:
    """The hook as the contract defines it."""
    hooks = _class(api, "herdgate.hooks", "Hooks")
    symbol = hooks.names.get(hook) if hooks else None
    node = symbol.node if symbol else None
    defined = node.func.type if isinstance(node, Decorator) else node.type if isinstance(node, FuncDef) else None
    return defined if isinstance(defined, CallableType) else None


def _class(api: CheckerPluginInterface, module: str, name: str) -> TypeInfo | None:
    """A class of a module that is part of this run."""
    found = api.modules.get(module) if isinstance(api, TypeChecker) else None
    symbol = found.names.get(name) if found else None
    return symbol.node if symbol and isinstance(symbol.node, TypeInfo) else None


def _wrong_arguments(contract: CallableType, marked: CallableType) -> Iterator[str]:
    offered = dict(zip(contract.arg_names[1:], contract.arg_types[1:], strict=True))
    asked = zip(marked.arg_names, marked.arg_kinds, marked.arg_types, strict=True)
    if marked.is_ellipsis_args:  # a decorator that does not tell
        return
    for name, kind, declared in list(asked)[1:]:
        if kind.is_star():
            yield f"{name} would always be empty; name what it needs of {', '.join(map(str, offered))}"
        elif name in offered and kind.is_optional():
            yield f"{name} would never see more than its default; write it without one"
        elif name in offered and kind is ARG_NAMED:
            yield f"{name} is taken by keyword only; take it without `*`"
        elif name not in offered:
            yield f"it does not offer {name}, but {', '.join(str(each) for each in offered)}"
        elif not is_subtype(offered[name], declared):
            yield f"{name} is {_short(offered[name])}, not {_short(declared)}"


def _wrong_results(
    api: CheckerPluginInterface, hook: str, contract: CallableType, marked: CallableType
) -> Iterator[str]:
    expected = _awaited(api, contract.ret_type) or contract.ret_type
    returned = get_proper_type(marked.ret_type)
    for each in returned.items if isinstance(returned, UnionType) else [returned]:
        inner = _awaited(api, each) if _may_wait(hook) else None
        if not is_subtype(inner or each, expected):
            yield f"it must return {_short(expected)}, not {_short(inner or each)}"


def _awaited(api: CheckerPluginInterface, given: Type) -> Type | None:
    """What awaiting this gives; None if it cannot be awaited."""
    proper = get_proper_type(given)
    awaitable = _class(api, "typing", "Awaitable")
    if awaitable is None or not isinstance(proper, Instance) or not proper.type.has_base(awaitable.fullname):
        return None
    return map_instance_to_supertype(proper, awaitable).args[0]


def _short(given: Type) -> str:
    """A type as an author would write it."""
    text = str(given).replace("builtins.", "").replace("typing.", "")
    for module in ("access", "app", "backend", "errors", "exchange", "failure", "hooks", "routes", "surface"):
        text = text.replace(f"herdgate.{module}.", "")
    return text
