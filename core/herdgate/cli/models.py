"""`proxyctl list-models`: what the backends host at this moment."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click
from rich.text import Text

from herdgate.backend import ModelEntry
from herdgate.catalogue import Catalogue, ModelList
from herdgate.cli.discover import Asked, configured
from herdgate.cli.options import config_option, json_option, settings_of, timeout_option
from herdgate.cli.output import cells, clean, console, count, print_json, print_table, size, table
from herdgate.config import Settings
from herdgate.loop import run
from herdgate.snapshot import Snapshot
from herdgate.state import State, StateUnavailable


@click.command(name="list-models")
@config_option
@timeout_option
@json_option
@click.pass_context
def command(ctx: click.Context, config: str | None, timeout: float, as_json: bool) -> None:
    """Ask every configured backend now, all at the same time, which models it has.

    No gateway needs to run. Exit code 1 if no backend answered.
    """
    found = run(_find(settings_of(config), timeout))
    if as_json:
        print_json(_as_json(found))
    else:
        _show(found)
    ctx.exit(0 if any(backend.problem is None for backend in found.backends) else 1)


@dataclass(frozen=True)
class _Found:
    backends: Sequence[Asked]
    catalogue: Catalogue
    cache: Mapping[str, object]
    place: str


async def _find(settings: Settings, timeout: float) -> _Found:
    async with configured(settings, timeout) as backends:
        asked = await backends.each(backends.models_of)
        return _Found(asked, _catalogue(asked), await _cache(backends.state), backends.state.place)


def _catalogue(asked: Sequence[Asked]) -> Catalogue:
    now = time.time()
    good = [one for one in asked if one.problem is None]
    lists = {one.settings.name: ModelList(one.settings.name, one.entries, now) for one in good}
    return Catalogue.build([one.settings.view() for one in good], lists, now)


async def _cache(state: State) -> dict[str, object]:
    try:
        return {"kind": state.kind, "entries": await Snapshot(state).entries()}
    except StateUnavailable as error:
        return {"kind": state.kind, "entries": None, "error": str(error)}


def _holders(catalogue: Catalogue, entry: ModelEntry) -> list[str]:
    return [holder.backend.name for holder in catalogue.holders(entry.name)]


def _as_json(found: _Found) -> dict[str, object]:
    union = found.catalogue.union()
    return {
        "backends": [_backend_as_json(backend) for backend in found.backends],
        "union": len(union),
        "models": [{"name": entry.name.display, "backends": _holders(found.catalogue, entry)} for entry in union],
        "cache": found.cache,
    }


def _backend_as_json(backend: Asked) -> dict[str, object]:
    return {
        "name": backend.settings.name,
        "base_url": backend.settings.base_url,
        "ok": backend.problem is None,
        "error": backend.problem.text if backend.problem else None,
        "version": backend.version,
        "models": [
            {"name": entry.name.display, "digest": entry.digest, "size": entry.size} for entry in backend.entries
        ],
    }


def _show(found: _Found) -> None:
    out = console()
    for backend in found.backends:
        version = f"  version {clean(backend.version)}" if backend.version else ""
        out.print(Text.assemble((backend.settings.name, "bold"), f"  {backend.settings.base_url}{version}"))
        if backend.problem:
            out.print(Text(f"  failed: {clean(backend.problem.text)}", style="red"))
        elif not backend.entries:
            out.print("  no models")
        else:
            rows = table("", "MODEL", "SIZE>", "DIGEST", "SERVED FROM")
            for entry in sorted(backend.entries, key=lambda entry: entry.name.display):
                rows.add_row(*_row(backend, entry, found.catalogue))
            print_table(rows)
        out.print()
    good = sum(backend.problem is None for backend in found.backends)
    out.print("* a request for this model goes to this backend first")
    out.print(
        f"{count(len(found.catalogue.union()), 'model')} on {good} of {count(len(found.backends), 'backend')}; "
        f"{_cache_in_words(found)}"
    )


def _row(backend: Asked, entry: ModelEntry, catalogue: Catalogue) -> Sequence[Text]:
    holders = _holders(catalogue, entry)
    here = bool(holders) and holders[0] == backend.settings.name
    served = holders[0] if holders else "nowhere: a cloud model, and cloud is off for this backend"
    return cells("*" if here else "", entry.name.display, size(entry.size), entry.digest[:12], served)


def _cache_in_words(found: _Found) -> str:
    entries = found.cache["entries"]
    if entries is None:
        return f"the shared catalogue cache cannot be read: {found.cache['error']}"
    return f"{entries} entries in the shared catalogue cache ({found.place})"
