"""`proxyctl explain`: which backends a request would try and who decided what, or why it would be refused."""

from __future__ import annotations

from typing import Any

import click

from herdgate.cli.admin import ask
from herdgate.cli.failures import BadUsage
from herdgate.cli.options import config_option, json_option, settings_of
from herdgate.cli.output import cells, clean, print_json, print_table, table
from herdgate.keys import SECRET_PREFIX

PATH = "/herdgate/explain"


@click.command(name="explain")
@click.option("--key", required=True, metavar="NAME_OR_ID", help="Whose request: the name or id of a key.")
@click.option("--model", required=True, metavar="MODEL", help="The model that it would name.")
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, key: str, model: str, config: str | None, as_json: bool) -> None:
    """Ask the running gateway what would become of a chat with MODEL by the caller of this key.

    The plugins decide as about a real request; nothing is sent to a backend and nothing counts against a limit. The
    gateway wants an admin key: the one of HERDGATE_ADMIN_KEY. Exit code 1 if the request would be refused.
    """
    if key.startswith(SECRET_PREFIX):
        raise BadUsage("--key takes a key's name or id, which `proxyctl keys list` shows, not the key itself")
    told = ask(settings_of(config), PATH, {"key": key, "model": model})
    if as_json:
        print_json(told)
    else:
        _show(told)
    ctx.exit(1 if told["refused"] else 0)


def _show(told: dict[str, Any]) -> None:
    click.echo(clean(f"{told['key']} asks for {told['model']} (POST {told['path']})") + "\n")
    rows = table("STEP", "PLUGIN", "SAYS", "BACKENDS LEFT", "WHY")
    for step in told["steps"]:
        rows.add_row(*cells(step["hook"], step["plugin"], step["said"], step.get("left"), "; ".join(step["reasons"])))
    print_table(rows)
    click.echo()
    if told["left_out"]:
        click.echo(f"Left out for now, because it keeps failing: {', '.join(told['left_out'])}.")
    if told["not_asked"]:
        hooks = (f"{hook} ({', '.join(plugins)})" for hook, plugins in told["not_asked"].items())
        click.echo(f"Not asked, because it would count: {', '.join(hooks)}.")
    click.echo(_conclusion(told))


def _conclusion(told: dict[str, Any]) -> str:
    refused = told["refused"]
    if refused is None:
        return f"It would try {', then '.join(told['candidates'])}."
    who = f"the plugin {refused['plugin']}" if refused["plugin"] else "the gateway"
    return clean(
        f"It would be refused with status {refused['status']} by {who} ({refused['hook']}): {refused['reason']}."
    )
