"""`proxyctl keys`: the keys that callers need."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TypedDict, Unpack

import click

from herdgate.cli.failures import BadAnswer
from herdgate.cli.options import config_option, json_option, settings_of
from herdgate.cli.output import cells, print_json, print_table, table
from herdgate.config import Settings
from herdgate.keys import KeyProblem, KeyRecord, KeyStore, parse_duration
from herdgate.loop import run
from herdgate.state import StateAbsent, StateUnavailable, open_state

_OPEN = (
    "No key was ever made: a gateway that only this machine can reach serves callers without one, any other refuses "
    "to start. From the first key on, every caller needs one."
)
_ADMIN_KEY_ONLY = "No key was ever made, but the settings give an admin key, so every caller needs a key."


@click.group(name="keys")
def command() -> None:
    """Make, list and revoke API keys.

    They are kept in the state that the settings name; every gateway on it takes notice within two seconds.
    """


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:  # noqa: ARG001
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


class _Wanted(TypedDict):
    name: str
    models: str
    admin: bool
    rpm: int | None
    cloud: bool
    deadline: int | None
    expires: int | None


@command.command()
@click.option("--name", required=True, metavar="NAME", help="What the key is called; unique among keys in use.")
@click.option(
    "--models", default="", metavar="PATTERNS", help="What it may use: 'llama3.2,qwen3:*'; '*' is every model."
)
@click.option("--admin", is_flag=True, help="It may also see the gateway's own pages and which backend answered.")
@click.option("--rpm", type=int, metavar="N", help="Requests per minute at most.")
@click.option(
    "--deadline", metavar="TIME", callback=_seconds, help="How long one request may take, its reply included: 30s, 15m."
)
@click.option(
    "--cloud", is_flag=True, help="It may also use models that run in Ollama's cloud, through backends that allow it."
)
@click.option("--expires", metavar="TIME", callback=_seconds, help="For how long it is valid: 30s, 15m, 12h or 30d.")
@config_option
@json_option
def create(config: str | None, as_json: bool, **wanted: Unpack[_Wanted]) -> None:
    """Make a key. Its secret is printed once and kept nowhere.

    Only the secret goes to standard output, so that KEY=$(proxyctl keys create ...) works.
    """
    settings = settings_of(config)
    if sys.stdout is None:
        raise BadAnswer("standard output is closed, and the key would go nowhere else: none is made")
    record, secret, place = run(_create(settings, wanted))
    try:
        if as_json:
            print_json({"id": record.id, "name": record.name, "key": secret, **_limits(record)})
            return
        said = f"Key {record.name} ({record.id}) is made; {place} keeps a hash of it. The key itself, once:"
        click.echo(said, err=True)
        click.echo(secret)
    except OSError:
        _take_back(settings, record)
        raise
    click.echo(_how_to_use(settings), err=True)


def _take_back(settings: Settings, record: KeyRecord) -> None:
    """Revoke a key whose secret nobody has, because it could not be written."""
    said = f"Key {record.name} ({record.id}) could not be handed over"
    try:
        run(_revoked(settings, record.id))
    except (StateUnavailable, KeyProblem) as error:
        said = f"{said} and is live all the same ({error}). Revoke it: proxyctl keys revoke {record.id}"
    else:
        said = f"{said} and is revoked again."
    with suppress(OSError):
        click.echo(said, err=True)


async def _create(settings: Settings, wanted: _Wanted) -> tuple[KeyRecord, str, str]:
    patterns = [pattern.strip() for pattern in wanted["models"].split(",") if pattern.strip()]
    until = None if wanted["expires"] is None else time.time() + wanted["expires"]
    async with _store(settings, create=True) as (store, place):
        record, secret = await store.create(
            wanted["name"],
            patterns,
            admin=wanted["admin"],
            expires_at=until,
            rpm=wanted["rpm"],
            cloud=wanted["cloud"],
            deadline=wanted["deadline"],
        )
        return record, secret.get_secret_value(), place


@command.command(name="list")
@config_option
@json_option
def list_keys(config: str | None, as_json: bool) -> None:
    """List all keys ever made, oldest first."""
    settings = settings_of(config)

    async def listed() -> list[KeyRecord]:
        try:
            async with _store(settings) as (store, _):
                return await store.list()
        except StateAbsent as error:
            click.echo(f"Note: {error}.", err=True)
            return []

    records = run(listed())
    if as_json:
        print_json({"keys": [_as_json(record) for record in records]})
    elif not records:
        click.echo(_ADMIN_KEY_ONLY if settings.admin_key else _OPEN)
    else:
        _show(records)


@command.command()
@click.argument("name_or_id")
@config_option
@json_option
def show(name_or_id: str, config: str | None, as_json: bool) -> None:
    """Show one key: by its id, or the one in use of this name, or else the latest of this name."""
    settings = settings_of(config)

    async def found() -> KeyRecord:
        async with _store(settings) as (store, _):
            return await store.find(name_or_id)

    record = run(found())
    if as_json:
        print_json(_as_json(record))
        return
    rows = table("", "")
    rows.show_header = False
    for name, value in _as_json(record).items():
        rows.add_row(*cells(name, value))
    print_table(rows)


@command.command()
@click.argument("name_or_id")
@config_option
@json_option
def revoke(name_or_id: str, config: str | None, as_json: bool) -> None:
    """Revoke a key for good, given its name or its id."""
    record = run(_revoked(settings_of(config), name_or_id))
    if as_json:
        print_json(_as_json(record))
    else:
        click.echo(f"Key {record.name} ({record.id}) is revoked. Gateways refuse it within two seconds.")


async def _revoked(settings: Settings, name_or_id: str) -> KeyRecord:
    async with _store(settings) as (store, _):
        return await store.revoke(name_or_id)


@asynccontextmanager
async def _store(settings: Settings, *, create: bool = False) -> AsyncIterator[tuple[KeyStore, str]]:
    """The keys, and where they are kept. Raises StateUnavailable."""
    state = await open_state(settings.server.state.get_secret_value(), create=create)
    try:
        yield KeyStore(state), state.place
    finally:
        await state.close()


def _as_json(record: KeyRecord) -> dict[str, object]:
    """What may be shown of a key: neither its secret, which nobody has, nor its hash."""
    return {
        "id": record.id,
        "name": record.name,
        "status": _status(record),
        **_limits(record),
        "created": _when(record.created),
        "revoked": _when(record.revoked),
    }


def _limits(record: KeyRecord) -> dict[str, object]:
    return {
        "models": list(record.models),
        "admin": record.admin,
        "expires": _when(record.expires),
        "rpm": record.rpm,
        "cloud": record.cloud,
        "deadline": record.deadline,
    }


def _status(record: KeyRecord) -> str:
    if record.revoked is not None:
        return "revoked"
    return "live" if record.live(time.time()) else "expired"


def _when(seconds: float | None) -> str | None:
    """A time in UTC as RFC 3339 has it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _show(records: list[KeyRecord]) -> None:
    rows = table("ID", "NAME", "STATUS", "MODELS", "ADMIN", "CLOUD", "RPM>", "CREATED", "EXPIRES")
    for record in records:
        status = _status(record)
        rows.add_row(
            *cells(record.id, record.name, status, record.models, record.admin, record.cloud, record.rpm),
            *cells(_when(record.created), _when(record.expires)),
            style="" if status == "live" else "dim",
        )
    print_table(rows)


def _how_to_use(settings: Settings) -> str:
    host = settings.server.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.server.port}"
    return f"""
Callers send it as "Authorization: Bearer KEY" or "x-api-key: KEY":
    curl {url}/api/tags -H "Authorization: Bearer KEY"
    OpenAI clients:     OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=KEY
    Anthropic clients:  ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY=KEY
    Ollama for Python:  OLLAMA_HOST={url} OLLAMA_API_KEY=KEY"""
