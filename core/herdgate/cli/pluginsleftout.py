"""Plugins that running gateways leave out for a while, as `proxyctl plugins list` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from herdgate.cli.nostate import state_or_stand_in
from herdgate.cli.output import cells, print_table, table
from herdgate.config import Settings
from herdgate.quarantine import LeftOut
from herdgate.quarantineboard import posted
from herdgate.state import StateUnavailable

Left = Sequence[tuple[str, LeftOut]]


async def left_out_now(settings: Settings) -> Left | None:
    """Who is left out, and by which process; None if the state that the gateways tell it to cannot be read."""
    state = await state_or_stand_in(settings.server.state.get_secret_value())
    try:
        return await posted(state)
    except StateUnavailable:
        return None
    finally:
        await state.close()


def as_json_of(left_out: Left | None) -> list[dict[str, Any]] | None:
    """The same for programs. Times are in seconds since 1970."""
    if left_out is None:
        return None
    return [{**asdict(left), "process": process} for process, left in left_out]


def print_left_out(left_out: Left | None) -> None:
    """A table, if there is anything to say."""
    if left_out is None:
        click.echo("\nWho is left out at the moment is not known: the state cannot be read.")
    if not left_out:
        return
    click.echo()
    rows = table("LEFT OUT", "OF", "UNTIL", "FAULTS>", "BY PROCESS")
    for process, left in left_out:
        until = datetime.fromtimestamp(left.until).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        rows.add_row(*cells(left.plugin, left.hook, until, left.faults, process))
    print_table(rows)
