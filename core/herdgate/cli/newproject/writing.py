"""The files of a new plugin project, as texts."""

from __future__ import annotations

import builtins
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from textwrap import indent

import herdgate
from herdgate.cli.newproject.bodies import BODIES, NOTHING, Body
from herdgate.cli.newproject.templates import ASKED, PROJECT, README, TESTS
from herdgate.config import builtin_plugins
from herdgate.hooks import API, INFO, Hooks, Kind, described
from herdgate.plugins import impls_of, load_plugins
from herdgate.pluginsource import name_of_class

_FROM = {
    "Sequence": "collections.abc",
    "AbstractAsyncContextManager": "contextlib",
    "BaseModel": "pydantic",
    "Field": "pydantic",
}
"""Where names come from that are not Herdgate's own."""


@dataclass(frozen=True)
class Names:
    """What things are called in a project: `cheapest-first` makes `cheapest_first`, `CheapestFirst` and so on."""

    plugin: str
    used: frozenset[str] = frozenset()
    """What the class must not be called, because the code around it has something of that name."""

    @property
    def distribution(self) -> str:
        """What pip installs."""
        return f"herdgate-{self.plugin.replace('_', '-')}"

    @property
    def module(self) -> str:
        """What Python imports."""
        return f"herdgate_{self.plugin}"

    @property
    def cls(self) -> str:
        """The class of the plugin."""
        cls = "".join(word.title() for word in self.plugin.split("_"))
        return f"{cls}Plugin" if cls in self.used else cls

    @property
    def tested(self) -> str:
        """What the plugin is called where only its class is at hand, as in its tests."""
        return name_of_class(self.cls)


def files_of(names: Names, hook: str) -> Mapping[str, str]:
    """All files of the project, by path."""
    body = BODIES.get(hook, NOTHING)
    names = replace(names, used=frozenset(re.findall(r"\w+", _module("_", hook, body) + TESTS)) | set(dir(builtins)))
    ours = tuple(int(part) for part in herdgate.__version__.split(".")[:2])
    known: dict[str, object] = {
        "names": names,
        "hook": hook,
        "about": body.about,
        "setting": _commented(body.setting),
        "place": _place(hook),
        "order": f', plugins=["{names.tested}", *built_in()]' if _answers_first(hook) else "",
        "asked": ASKED.format(hook=hook, names=names) if hook in BODIES else "",
        "at_least": f"{ours[0]}.{ours[1]}",
        "below": f"{ours[0]}.{ours[1] + 1}",
    }
    kit = ["assert_plugin_is_well_behaved", "gateway_with"]
    kit += ["built_in"] * bool(known["order"]) + ["until"] * bool(known["asked"])
    known["kit"] = ", ".join(sorted(kit))
    return {
        f"{names.module}.py": _module(names.cls, hook, body),
        f"tests/test_{names.plugin}.py": TESTS.format_map(known),
        "pyproject.toml": PROJECT.format_map(known),
        "README.md": README.format_map(known),
    }


def _module(cls: str, hook: str, body: Body) -> str:
    signature = inspect.signature(vars(Hooks)[hook])
    arguments = [f"{name}: {signature.parameters[name].annotation}" for name in body.arguments]
    head = f"def {hook}({', '.join(['self', *arguments])}) -> {signature.return_annotation}:"
    used = re.findall(r"\w+", f"{head} {body.setting} {body.helper} {body.code} BaseModel Field")
    lines = [
        f'"""{body.about}"""',
        "",
        "from __future__ import annotations",
        "",
        *_imports(body, {*used, *body.names, "hookimpl"}),
        "",
        *(["", body.helper, "", ""] if body.helper.startswith("class ") else [body.helper, "", ""]),
        f"class {cls}:",
        f'    """{body.about}"""',
        "",
        f"    herdgate_api = {API}",
        "",
        "    class Settings(BaseModel):",
        '        """What the entry in plugins.toml may say."""',
        "",
        indent(body.setting, "        "),
        "",
        "    def __init__(self, settings: Settings) -> None:",
        "        self._settings = settings",
        "",
        "    @hookimpl",
        indent(f"{'async ' if body.waits else ''}{head}", "    "),
        f'        """{described(hook)["summary"].partition(". ")[0].rstrip(".")}."""',
        *([""] if body.code.startswith(("async def", "def")) else []),
        indent(body.code, "        "),
    ]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)) + "\n"


def _imports(body: Body, used: Iterable[str]) -> list[str]:
    """The import lines, in the order in which a linter wants them."""
    used = set(used)
    modules: dict[str, set[str]] = {}
    for name in used & _FROM.keys():
        modules.setdefault(_FROM[name], set()).add(name)
    modules["herdgate"] = (used & set(herdgate.__all__)) - {"__version__"}
    for line in body.imports:
        if line.startswith("from "):
            module, _, name = line.removeprefix("from ").partition(" import ")
            modules.setdefault(module, set()).add(name)
    plain = [line for line in body.imports if line.startswith("import ")]
    others = [f"import {module}" for module in ("click", "httpx") if module in used]
    froms = {
        module: f"from {module} import {', '.join(sorted(names, key=_place_of_name))}"
        for module, names in modules.items()
    }
    own = [froms[module] for module in sorted(froms) if module in {"collections.abc", "contextlib"}]
    theirs = [froms[module] for module in sorted(froms) if module not in {"collections.abc", "contextlib"}]
    first = sorted(plain) + own
    return [*first, *([""] if first else []), *others, *theirs]


def _place_of_name(name: str) -> tuple[bool, str]:
    """Classes before functions, as linters sort them."""
    return not name[0].isupper(), name


def _answers_first(hook: str) -> bool:
    return INFO[hook].kind is Kind.FIRST


def _place(hook: str) -> str:
    """Where the entry belongs in plugins.toml."""
    answering = [impl.plugin for impl in impls_of(load_plugins(builtin_plugins()), hook)]
    if _answers_first(hook) and answering:
        return f"Of the plugins that answer `{hook}` the first one counts, so put it before `{answering[0]}`:"
    return "Append it to the `plugins.toml` of the gateway:"


def _commented(setting: str) -> str:
    """The setting as a comment of plugins.toml: its name and what it means."""
    name = setting.partition(":")[0]
    meaning = setting.partition('description="')[2].removesuffix('")')
    return f"# {name} = …   {meaning}"
