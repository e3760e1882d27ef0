"""Loading what plugins.toml lists: found, checked, made, in the operator's order, with every mistake told at once."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from herdgate.config import ConfigError, PluginEntry
from herdgate.hooks import INFO, Kind
from herdgate.plugins import Plugin, impls_of, load_plugins

GOOD = """
    from herdgate import hookimpl

    class Good:
        herdgate_api = 1

        @hookimpl
        def select_candidates(self, candidates):
            return candidates
"""

WriteFile = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Write a Python file and return its path."""

    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), "utf-8")
        return str(path)

    return write


@pytest.fixture
def distribution(tmp_path: Path, write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a distribution that brings one plugin."""

    def install(name: str, module: str, text: str = GOOD, *, plugin: str = "thing", version: str = "2.5") -> None:
        site = tmp_path / f"site-{name}"
        write(f"site-{name}/{module}.py", text)
        write(
            f"site-{name}/{name}-{version}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        )
        write(
            f"site-{name}/{name}-{version}.dist-info/entry_points.txt",
            f"[herdgate.plugins]\n{plugin} = {module}:Good\n",
        )
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def entry(use: str, line: int = 1, /, **settings: object) -> PluginEntry:
    origins: dict[tuple[int | str, ...], str] = {
        (key,): f"plugins.toml:{line + 1 + number}" for number, key in enumerate(settings)
    }
    return PluginEntry(use, settings, f"plugins.toml:{line}", origins)


def load(use: str, **settings: object) -> Plugin:
    (plugin,) = load_plugins([entry(use, 1, **settings)])
    return plugin


PLACE = re.compile(r" \(/\S+\.py, line (\d+)\)$")


def problems(*entries: PluginEntry) -> list[str]:
    """What the operator is told, a line for each problem; the place in the plugin's own file aside."""
    with pytest.raises(ConfigError) as caught:
        load_plugins(entries)
    told = [str(problem) for problem in caught.value.problems]
    return [each if "cannot be imported" in each else PLACE.sub("", each) for each in told]


def problem(use: str, **settings: object) -> str:
    (only,) = problems(entry(use, 1, **settings))
    return only


# three ways to name a plugin


def test_an_installed_plugin_is_named_by_its_entry_point(distribution: Callable[..., None]) -> None:
    distribution("acme_plugins", "acme_thing")
    plugin = load("thing")
    assert (plugin.name, plugin.distribution, plugin.version) == ("thing", "acme_plugins", "2.5")
    assert plugin.origin == "plugins.toml:1"
    assert type(plugin.instance).__module__ == "acme_thing"
    assert list(plugin.impls) == ["select_candidates"]


def test_a_class_is_named_by_its_module(write: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("acme_more.py", GOOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = load("acme_more:Good")
    assert (plugin.name, plugin.distribution) == ("good", "acme_more")


def test_a_class_is_named_by_its_file(write: WriteFile) -> None:
    path = write("my plugin.py", GOOD.replace("Good", "NightShift"))
    plugin = load(f"{path}:NightShift")
    assert (plugin.name, plugin.distribution) == ("night_shift", path)


def test_a_relative_file_is_found_as_well(write: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("mine.py", GOOD)
    monkeypatch.chdir(tmp_path)
    assert load("mine.py:Good").name == "good"


def test_two_classes_of_one_file_share_their_module(
    write: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("two.py", GOOD + GOOD.replace("Good", "Other"))
    monkeypatch.chdir(tmp_path)
    good, other = load_plugins([entry(f"{path}:Good"), entry("./two.py:Other")])
    assert type(good.instance).__module__ == type(other.instance).__module__
    assert sys.modules[type(good.instance).__module__].Other is type(other.instance)


def test_dataclasses_and_models_of_a_file_find_their_module(write: WriteFile) -> None:
    text = """
        from __future__ import annotations
        from dataclasses import dataclass
        from pydantic import BaseModel
        from herdgate import hookimpl

        @dataclass
        class Price:
            euros: int

        class Good:
            herdgate_api = 1

            class Settings(BaseModel):
                price: Price

            def __init__(self, settings: Settings) -> None:
                self.price = settings.price

            @hookimpl
            def exchange_ended(self, summary):
                pass
    """
    plugin = load(f"{write('mine.py', text)}:Good", price={"euros": 3})
    assert plugin.instance.price.euros == 3  # type: ignore[attr-defined]


def test_the_order_is_the_operators(write: WriteFile) -> None:
    path = write("three.py", GOOD + GOOD.replace("Good", "Alpha") + GOOD.replace("Good", "Zeta"))
    plugins = load_plugins([entry(f"{path}:{name}") for name in ("Zeta", "Good", "Alpha")])
    assert [plugin.name for plugin in plugins] == ["zeta", "good", "alpha"]
    assert [impl.plugin for impl in impls_of(plugins, "select_candidates")] == ["zeta", "good", "alpha"]
    assert impls_of(plugins, "authorise") == []


# what cannot be found


def test_an_unknown_entry_point_tells_the_installed_ones() -> None:
    told = problem("priority_failovr")
    assert told.startswith('plugins.toml:1: plugin "priority_failovr": no installed plugin has this name. Installed: ')
    assert "priority_failover" in told


@pytest.mark.parametrize("use", [":Class", "package.module:", "package.module:a-b", "./file.py: Class"])
def test_a_use_that_names_nothing_tells_the_three_ways(use: str) -> None:
    assert 'write an entry point, "package.module:Class", or "./file.py:Class"' in problem(use)


@pytest.mark.parametrize("use", ["no_such_package:Class", "no_such_package.module:Class", "json.nothing:Class"])
def test_a_module_that_is_not_there_is_told(use: str) -> None:
    assert f"{use.partition(':')[0]} cannot be imported: ModuleNotFoundError: No module named" in problem(use)


def test_a_file_that_is_not_there_is_told_with_its_path(tmp_path: Path) -> None:
    assert f"there is no file {tmp_path}/none.py" in problem(f"{tmp_path}/none.py:Good")


def test_a_path_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    assert "there is no file" in problem(f"{tmp_path}/{'x' * 5000}.py:Good")


def test_a_missing_class_tells_the_plugins_of_the_module(write: WriteFile) -> None:
    path = write("mine.py", GOOD)
    assert problem(f"{path}:Godo").endswith("has no class Godo; it has Good")
    assert problem(f"{path}:hookimpl").endswith("has no class hookimpl; it has Good")
    assert problem("json:Godo").endswith("json has no class Godo")


def test_an_entry_point_must_be_a_class(distribution: Callable[..., None]) -> None:
    distribution("acme_plugins", "acme_value", "Good = 7\n")
    assert problem("thing").endswith("the entry point acme_value:Good is not a class")


BROKEN_IMPORTS = [
    ("import json\n\nimport no_such_dependency\n", "ModuleNotFoundError: No module named 'no_such_dependency'", 3),
    ("import json\njson.loads('{')\n", "JSONDecodeError", 2),
    ("def go():\n    raise RuntimeError('no')\n\n\ngo()\n", "RuntimeError: no", 5),
    ("import sys\nsys.exit('no licence')\n", "SystemExit: no licence", 2),
    ("x = 1\nclass Good\n", "SyntaxError: expected ':'", 2),
]


@pytest.mark.parametrize(("text", "error", "line"), BROKEN_IMPORTS)
def test_a_file_that_cannot_be_imported_is_told_with_the_line(
    write: WriteFile, text: str, error: str, line: int
) -> None:
    path = write("broken.py", text)
    told = problem(f"{path}:Good")
    assert f"{path} cannot be imported: {error}" in told
    assert f"broken.py, line {line})" in told
    assert not any("broken" in name for name in sys.modules)


@pytest.mark.parametrize(("text", "error", "line"), BROKEN_IMPORTS)
def test_an_installed_plugin_that_cannot_be_imported_is_told_with_file_and_line(
    distribution: Callable[..., None], text: str, error: str, line: int
) -> None:
    distribution("acme_plugins", "acme_broken", text)
    for use, what in (("thing", "acme_broken:Good"), ("acme_broken:Good", "acme_broken")):
        told = problem(use)
        assert f"{what} cannot be imported: {error}" in told
        assert f"acme_broken.py, line {line})" in told


# two plugins of one name


def test_two_distributions_with_one_plugin_name_are_both_named(distribution: Callable[..., None]) -> None:
    distribution("acme_plugins", "acme_thing")
    distribution("other_plugins", "other_thing")
    told = problem("thing")
    assert "is offered by " in told
    assert "acme_plugins" in told
    assert "other_plugins" in told
    assert load("other_thing:Good").name == "good"


def test_two_entries_with_one_name_are_refused_with_both_places(
    write: WriteFile, distribution: Callable[..., None]
) -> None:
    distribution("acme_plugins", "acme_thing", plugin="good")
    path = write("mine.py", GOOD)
    told = problems(entry("good", 4), entry(f"{path}:Good", 9))
    assert told == [
        f'plugins.toml:9: plugin "{path}:Good": is already loaded at plugins.toml:4: acme_plugins and {path} both '
        f"bring a plugin of the name good; remove one of the two entries"
    ]


# the class


def with_method(method: str, decorators: str = "@hookimpl", body: str = "pass", before: str = "") -> str:
    return (
        "from contextlib import asynccontextmanager\n"
        "from herdgate import hookimpl\n"
        "class Good:\n"
        "    herdgate_api = 1\n"
        "    @hookimpl\n"
        "    def exchange_ended(self, summary): pass\n"
        f"{before}" + "".join(f"    {line}\n" for line in decorators.splitlines()) + f"    {method}\n"
        f"        {body}\n"
    )


@pytest.mark.parametrize(
    ("api", "told"),
    [
        ("", "add the line `herdgate_api = 1` to class Good: the API it is written for"),
        ("herdgate_api = 2", "is written for API 2; this Herdgate has API 1"),
        ('herdgate_api = "1"', "is written for API '1'; this Herdgate has API 1"),
    ],
)
def test_a_plugin_names_the_api_it_is_written_for(write: WriteFile, api: str, told: str) -> None:
    assert problem(f"{write('mine.py', GOOD.replace('herdgate_api = 1', api))}:Good").endswith(told)


@pytest.mark.parametrize("option", ["tryfirst", "trylast", "wrapper", "hookwrapper", "optionalhook"])
def test_a_plugin_cannot_move_itself_in_the_order(write: WriteFile, option: str) -> None:
    body = "yield" if "wrapper" in option else "pass"
    text = with_method("def select_candidates(self, candidates):", f"@hookimpl({option}=True)", body)
    told = problems(entry(f"{write('mine.py', text)}:Good"))[0]
    assert told.endswith(
        f"Good.select_candidates uses {option}: the order belongs to the operator's plugins.toml alone; "
        "write plain @hookimpl"
    )


SYNC = [name for name, info in INFO.items() if info.sync]


@pytest.mark.parametrize("hook", SYNC)
def test_a_sync_hook_cannot_be_async(write: WriteFile, hook: str) -> None:
    text = with_method(f"async def {hook}(self):")
    assert f"Good.{hook} is async, but {hook} is a sync hook: use def" in problem(f"{write('mine.py', text)}:Good")


@pytest.mark.parametrize("hook", [name for name in INFO if name not in {*SYNC, "exchange_ended"}])
def test_other_hooks_can_be_async_or_say_how(write: WriteFile, hook: str) -> None:
    use = f"{write('mine.py', with_method(f'async def {hook}(self):'))}:Good"
    if INFO[hook].kind in {Kind.CONTEXTS, Kind.GATHER}:
        assert f"Good.{hook} is async: use def, or def with @asynccontextmanager" in problem(use)
    else:
        assert hook in load(use).impls


@pytest.mark.parametrize("decorators", ["@hookimpl\n@asynccontextmanager", "@asynccontextmanager\n@hookimpl"])
def test_an_async_context_manager_may_be_decorated_in_either_order(write: WriteFile, decorators: str) -> None:
    text = with_method("async def lifespan(self, app):", decorators, "yield")
    assert set(load(f"{write('mine.py', text)}:Good").impls) == {"lifespan", "exchange_ended"}


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("async def lifespan(self):", "Good.lifespan is a generator: put @asynccontextmanager under @hookimpl"),
        ("def admit(self):", "Good.admit is a generator: put @asynccontextmanager under @hookimpl"),
        ("async def authorise(self):", "Good.authorise is a generator: return, do not yield"),
    ],
)
def test_a_forgotten_asynccontextmanager_is_told(write: WriteFile, method: str, told: str) -> None:
    assert problem(f"{write('mine.py', with_method(method, body='yield'))}:Good").endswith(told)


def test_a_method_named_like_a_hook_without_hookimpl_is_told(write: WriteFile) -> None:
    text = with_method("def authorise(self, identity):", decorators="")
    told = problem(f"{write('mine.py', text)}:Good")
    assert told.endswith("Good.authorise is named like a hook but lacks @hookimpl")


@pytest.mark.parametrize(
    ("method", "decorator", "hint"),
    [
        (
            "def select_candidate(self):",
            "@hookimpl",
            "hook select_candidate, which does not exist; did you mean select_candidates?",
        ),
        ("def authorize(self):", "@hookimpl", "hook authorize, which does not exist; did you mean authorise?"),
        (
            "def check(self):",
            '@hookimpl(specname="authorize")',
            "hook authorize, which does not exist; did you mean authorise?",
        ),
        ("def xyz(self):", "@hookimpl", "hook xyz, which does not exist; there are lifespan, backend_sources, "),
    ],
)
def test_an_unknown_hook_gets_a_suggestion(write: WriteFile, method: str, decorator: str, hint: str) -> None:
    assert f"is for a {hint}" in problem(f"{write('mine.py', with_method(method, decorator))}:Good")


@pytest.mark.parametrize(
    ("method", "decorators"),
    [
        ("def authorise(self, identity, who, resource):", "@hookimpl"),
        ("def authorise(identity, who, resource):", "@staticmethod\n@hookimpl"),
        ("def authorise(this, identity, /, who, resource=None):", "@hookimpl"),
        ("def authorise(self, who, /, *, resource):", "@hookimpl"),
    ],
)
def test_an_argument_that_a_hook_does_not_offer_is_told(write: WriteFile, method: str, decorators: str) -> None:
    told = problem(f"{write('mine.py', with_method(method, decorators))}:Good")
    assert told.endswith("Good.authorise asks for who, resource; authorise offers identity, action, resources")


@pytest.mark.parametrize("arguments", ["", "candidates", "candidates, self", "*, self", "exchange, /, candidates"])
def test_a_missing_self_is_told(write: WriteFile, arguments: str) -> None:
    told = problems(entry(f"{write('mine.py', with_method(f'def select_candidates({arguments}):'))}:Good"))
    expected = "Good.select_candidates lacks `self`: write it as the first argument"
    assert any(line.endswith(expected) for line in told)


@pytest.mark.parametrize("method", ["def authorise(me, identity):", "def authorise(cls, identity):"])
def test_self_may_be_called_as_one_likes(write: WriteFile, method: str) -> None:
    decorators = "@classmethod\n@hookimpl" if "cls" in method else "@hookimpl"
    assert "authorise" in load(f"{write('mine.py', with_method(method, decorators))}:Good").impls


def test_an_argument_by_keyword_only_is_told_apart_from_one_that_does_not_exist(write: WriteFile) -> None:
    text = with_method("def authorise(self, identity, *, resources, who):")
    assert [line.partition("Good.")[2] for line in problems(entry(f"{write('mine.py', text)}:Good"))] == [
        "authorise asks for who; authorise offers identity, action, resources",
        "authorise asks for resources by keyword only: take it without `*`",
    ]


@pytest.mark.parametrize("argument", ["action='see'", "*, action='see'"])
def test_an_argument_that_would_keep_its_default_is_refused(write: WriteFile, argument: str) -> None:
    told = problems(entry(f"{write('mine.py', with_method(f'def authorise(self, identity, {argument}):'))}:Good"))
    expected = "Good.authorise gives action a default, which is all it would ever see: write it without one"
    assert any(line.endswith(expected) for line in told)


@pytest.mark.parametrize(
    ("method", "stars"),
    [
        ("def authorise(self, identity, *args):", "*args"),
        ("def authorise(self, *args, **options):", "*args, **options"),
        ("def authorise(*args):", "*args"),
        ("def authorise(self, *, identity, **options):", "**options"),
    ],
)
def test_a_star_that_would_stay_empty_is_refused(write: WriteFile, method: str, stars: str) -> None:
    told = problems(entry(f"{write('mine.py', with_method(method))}:Good"))
    expected = "which would always be empty: name what it needs of identity, action, resources"
    assert any(line.endswith(f"Good.authorise takes {stars}, {expected}") for line in told)


def test_a_decorator_that_wraps_is_judged_by_what_it_wraps(write: WriteFile) -> None:
    text = "import functools\ndef same(f): return functools.wraps(f)(lambda *args, **kwargs: f(*args, **kwargs))\n"
    text += with_method("def authorise(self, identity):", "@hookimpl\n@same")
    assert "authorise" in load(f"{write('mine.py', text)}:Good").impls


def test_a_class_without_hooks_is_refused(write: WriteFile) -> None:
    path = write("mine.py", "class Good:\n    herdgate_api = 1\n    def help(self): pass\n")
    told = problem(f"{path}:Good")
    assert told.endswith("class Good implements no hook: put @hookimpl on a method named like one")


def test_a_hook_implemented_twice_is_refused(write: WriteFile) -> None:
    text = with_method("def also(self, summary):", '@hookimpl(specname="exchange_ended")')
    assert problem(f"{write('mine.py', text)}:Good").endswith("implements exchange_ended 2 times")


def test_a_hook_may_be_implemented_under_another_name(write: WriteFile) -> None:
    text = with_method("def choose(self, candidates):", '@hookimpl(specname="select_candidates")')
    assert "select_candidates" in load(f"{write('mine.py', text)}:Good").impls


def test_a_property_is_left_alone(write: WriteFile) -> None:
    text = with_method("def ready(self):", "@property", "raise RuntimeError('not yet')")
    assert set(load(f"{write('mine.py', text)}:Good").impls) == {"exchange_ended"}


def test_everything_wrong_with_a_class_is_told_at_once(write: WriteFile) -> None:
    text = (
        with_method("def authorise(self, who):")
        + "    @hookimpl\n    def authorize(self): pass\n"
        + "    @hookimpl(trylast=True)\n    async def mask_denial(self, secret): pass\n"
        + "    def admit(self): pass\n"
    )
    told = problems(entry(f"{write('mine.py', text)}:Good"))
    assert [line.partition("Good.")[2].partition(" ")[0] for line in told] == [
        "admit",
        "authorise",
        "authorize",
        "mask_denial",
        "mask_denial",
        "mask_denial",
    ]


# settings

WITH_SETTINGS = """
    from pydantic import AliasChoices, AliasPath, BaseModel, Field, SecretStr
    from herdgate import hookimpl

    class Good:
        herdgate_api = 1

        class Settings(BaseModel):
            limit: int = Field(default=3, ge=1)
            words: list[str] = []
            token: SecretStr | None = None
            short: int = Field(default=0, alias="shorter")
            many: int = Field(default=0, validation_alias=AliasChoices("several", AliasPath("numerous", 0)))

        def __init__(self, settings):
            self.settings = settings

        @hookimpl
        def exchange_ended(self, summary):
            pass
"""


@pytest.fixture
def with_settings(write: WriteFile) -> str:
    return f"{write('mine.py', WITH_SETTINGS)}:Good"


def test_settings_are_read_by_the_plugins_own_model(with_settings: str) -> None:
    settings = load(with_settings, limit=7, words=["a"], shorter=1, several=2).instance.settings  # type: ignore[attr-defined]
    assert (settings.limit, settings.words, settings.short, settings.many) == (7, ["a"], 1, 2)
    assert load(with_settings, numerous=[5]).instance.settings.many == 5  # type: ignore[attr-defined]
    assert load(with_settings).instance.settings.limit == 3  # type: ignore[attr-defined]


def test_every_bad_setting_is_told_with_its_own_line(with_settings: str) -> None:
    told = problems(entry(with_settings, 10, limit=0, lmit=4, words="abc"))
    assert len(told) == 3
    assert told[0].startswith(f'plugins.toml:11: plugin "{with_settings}": limit: found 0')
    assert told[1].startswith(f'plugins.toml:12: plugin "{with_settings}": unknown setting lmit; it has limit, many, ')
    assert told[2].startswith(f'plugins.toml:13: plugin "{with_settings}": words: found "abc"')


def test_a_secret_is_in_no_message(with_settings: str) -> None:
    told = problems(entry(with_settings, token=["very-secret"], tokn="very-secret", limit="very-secret-too"))
    assert "very-secret" not in "".join(told).replace("very-secret-too", "")


def test_a_model_may_take_any_setting(write: WriteFile) -> None:
    text = WITH_SETTINGS.replace("class Settings(BaseModel):", 'class Settings(BaseModel, extra="allow"):')
    assert load(f"{write('mine.py', text)}:Good", other=1).instance.settings.other == 1  # type: ignore[attr-defined]


def test_a_model_that_forbids_what_it_does_not_know_says_so_in_our_words(write: WriteFile) -> None:
    text = WITH_SETTINGS.replace("class Settings(BaseModel):", 'class Settings(BaseModel, extra="forbid"):')
    assert "unknown setting other; it has " in problem(f"{write('mine.py', text)}:Good", other=1)


def test_settings_for_a_plugin_without_any_are_refused(write: WriteFile) -> None:
    told = problem(f"{write('mine.py', GOOD)}:Good", limit=1, words=[])
    assert told.endswith("has no settings, but the file gives limit, words")


def test_settings_must_be_a_pydantic_model(write: WriteFile) -> None:
    text = GOOD.replace("herdgate_api = 1", "herdgate_api = 1\n        Settings = dict")
    assert problem(f"{write('mine.py', text)}:Good").endswith("its nested class Settings must be a pydantic BaseModel")


@pytest.mark.parametrize(
    ("error", "told"), [("OSError('no disk')", "OSError: no disk"), ("SystemExit", "SystemExit: ")]
)
def test_a_plugin_that_cannot_be_made_is_told(write: WriteFile, error: str, told: str) -> None:
    file = write("mine.py", with_method("def __init__(self):", decorators="", body=f"raise {error}"))
    line = Path(file).read_text().splitlines().index(f"        raise {error}") + 1
    assert problem(f"{file}:Good").endswith(f"could not be created ({file}:{line}): {told}")


def test_a_constructor_that_does_not_take_the_settings_is_told_what_to_take(write: WriteFile) -> None:
    for init in ("", "def __init__(self): pass"):
        file = write(
            "mine.py",
            f"""
            from pydantic import BaseModel

            class Good:
                herdgate_api = 1

                class Settings(BaseModel):
                    limit: int = 3

                {init}
        """,
        )
        told = problem(f"{file}:Good")
        assert f"could not be created ({file}:4): TypeError: " in told
        assert told.endswith("; add `def __init__(self, settings)`")


def test_a_constructor_that_wants_settings_the_class_does_not_have(write: WriteFile) -> None:
    file = write("mine.py", with_method("def __init__(self, settings):", decorators="", body="pass"))
    assert problem(f"{file}:Good").endswith("; add `def __init__(self)`")


# all at once


def test_the_problems_of_all_entries_are_told_at_once_with_their_places(write: WriteFile) -> None:
    path = write("mine.py", GOOD)
    told = problems(
        entry("nothing", 2),
        entry(f"{path}:Good", 5),
        entry(f"{path}:Bad", 8),
        entry("generic_403", 11, limit=3),
        entry(f"{path}:Good", 14),
        entry("priority_failover", 17, max_attempts=0),
    )
    assert [line.partition(": ")[0] for line in told] == [
        "plugins.toml:2",
        "plugins.toml:8",
        "plugins.toml:11",
        "plugins.toml:14",
        "plugins.toml:18",
    ]


# what is called


def test_a_hook_is_called_with_the_arguments_it_asks_for(write: WriteFile) -> None:
    text = """
        from herdgate import hookimpl

        class Good:
            herdgate_api = 1

            @hookimpl
            def authorise(self, resources, identity):
                return identity, resources

            @hookimpl
            def select_candidates(self, candidates):
                return candidates

            @hookimpl
            def mask_denial(self):
                return "nothing"

            @hookimpl
            def judge_failure(self, exchange, attempt, failure):
                return exchange, attempt, failure

            @hookimpl
            def prepare_upstream(self, attempt):
                return attempt

            @staticmethod
            @hookimpl
            def inspect_opening(opening):
                return opening
    """
    impls = load(f"{write('mine.py', text)}:Good").impls
    assert impls["authorise"].call(1, 2, 3) == (1, 3)
    assert impls["select_candidates"].call(1, 2) == 2
    assert impls["mask_denial"].call(1, 2, 3) == "nothing"
    assert impls["judge_failure"].call(1, 2, 3) == (1, 2, 3)
    assert impls["prepare_upstream"].call(1, 2, 3) == 2
    assert impls["inspect_opening"].call(1, 2, 3) == 3


def test_a_plugin_is_advisory_only_where_its_hook_allows_it(write: WriteFile) -> None:
    plain = load(f"{write('plain.py', GOOD)}:Good")
    assert not plain.advisory
    assert not plain.impls["select_candidates"].advisory
    assert not plain.impls["select_candidates"].discloses
    text = with_method("def select_candidates(self):") + "    advisory = True\n    discloses = True\n"
    plugin = load(f"{write('mine.py', text)}:Good")
    assert plugin.advisory
    assert plugin.impls["select_candidates"].advisory
    assert not plugin.impls["exchange_ended"].advisory
    assert plugin.impls["select_candidates"].discloses


def test_no_plugin_shows_its_settings_in_its_repr(with_settings: str) -> None:
    assert "very-secret" not in repr(load(with_settings, words=["very-secret"]))
