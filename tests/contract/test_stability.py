"""What a release has promised to plugins holds for as long as the API number stays: nobody's plugin breaks unasked."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pluggy
import pytest
from tests.contract.documents import ROOT, document

import herdgate
from herdgate import hooks
from herdgate.config import PluginEntry
from herdgate.hooks import API, INFO, HookInfo, Hooks, Kind, signature_of
from herdgate.plugins import load_plugins

PROMISES = {path.stem: json.loads(path.read_text()) for path in sorted(Path(__file__).parent.glob("released/*.json"))}
KEPT = [(version, promise) for version, promise in PROMISES.items() if promise["api"] == API]
LATEST = PROMISES[max(PROMISES, key=lambda version: tuple(map(int, version.split("."))))]
HOOKS = [(version, hook, facts) for version, promise in KEPT for hook, facts in promise["hooks"].items()]


def test_there_is_a_promise_to_hold() -> None:
    assert KEPT
    assert HOOKS


@pytest.mark.parametrize(("version", "hook", "facts"), HOOKS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_hook_of_a_release_is_still_called_as_it_was(version: str, hook: str, facts: dict[str, Any]) -> None:
    assert hook in INFO, f"{version} had it: a hook goes with a new API number only"
    assert set(facts["arguments"]) <= set(signature_of(hook))
    accepted = {expected.__name__ for expected in INFO[hook].expects}
    assert set(facts["expects"]) <= accepted or "object" in accepted
    assert facts["sync"] or not INFO[hook].sync, "what was allowed to be async must stay so"


@pytest.mark.parametrize(("version", "promise"), KEPT, ids=[version for version, _ in KEPT])
def test_every_name_of_a_release_can_still_be_imported(version: str, promise: dict[str, Any]) -> None:
    assert set(promise["names"]) <= set(herdgate.__all__)


def unreleased() -> str:
    """The part of the changelog about what is not released yet."""
    text = document("CHANGELOG.md").text
    return text.partition("## [Unreleased]")[2].partition("\n## [")[0]


@pytest.mark.parametrize("hook", [hook for hook in INFO if hook not in LATEST["hooks"]])
def test_the_changelog_tells_plugin_authors_of_a_new_hook(hook: str) -> None:
    assert f"`{hook}`" in unreleased()


def test_the_changelog_has_a_section_for_plugin_authors() -> None:
    assert "\n### For plugin authors\n" in unreleased()


def test_the_page_about_stability_names_the_api_number_of_this_version() -> None:
    assert f"This version has API {API}." in document("docs/stability.md").text


# how a hook goes

OLD = """
from herdgate import hookimpl

class Old:
    herdgate_api = 1

    @hookimpl
    def select_candidates(self, candidates):
        return candidates
"""
SAID = "the hook select_candidates is deprecated: since 9.9; use choose_backends"


@pytest.fixture
def deprecated(monkeypatch: pytest.MonkeyPatch) -> None:
    """`select_candidates`, as if it were on its way out."""
    monkeypatch.setitem(vars(Hooks.select_candidates)["herdgate_spec"], "warn_on_impl", DeprecationWarning(SAID))
    info = INFO["select_candidates"]
    facts = {name: getattr(info, name) for name in type(info).__slots__}
    monkeypatch.setitem(
        INFO, "select_candidates", type(info)(**facts | {"deprecated": "since 9.9; use choose_backends"})
    )


def test_a_hook_that_is_declared_deprecated_warns_as_pluggy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "INFO", {})

    class Specs:
        @hooks._hook(HookInfo(Kind.NOTIFY, (object,), "logged", deprecated="since 9.9; use `new`"))
        def old(self) -> None: ...

        @hooks._hook(HookInfo(Kind.NOTIFY, (object,), "logged"))
        def new(self) -> None: ...

    manager = pluggy.PluginManager("herdgate")
    manager.add_hookspecs(Specs)
    old, new = manager.hook.old.spec, manager.hook.new.spec
    assert old is not None
    assert new is not None
    assert str(old.warn_on_impl) == "the hook old is deprecated: since 9.9; use `new`"
    assert new.warn_on_impl is None


def test_authors_get_a_warning_and_operators_a_line_in_the_log(
    deprecated: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "old.py").write_text(OLD)
    with pytest.warns(DeprecationWarning, match=re.escape(SAID)):
        load_plugins([PluginEntry(f"{tmp_path}/old.py:Old", {}, "plugins.toml:1")])
    (said,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert said.getMessage() == f"plugin old ({tmp_path}/old.py) must be renewed: {SAID}"


def test_nothing_is_said_of_hooks_that_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "old.py").write_text(OLD)
    load_plugins([PluginEntry(f"{tmp_path}/old.py:Old", {}, "plugins.toml:1")])
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_what_was_released_is_a_file_for_each_release_of_the_changelog() -> None:
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert set(released) == set(PROMISES)
