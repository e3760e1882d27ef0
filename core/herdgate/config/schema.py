"""The settings themselves: names, defaults, meanings, and what each accepts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, SecretStr

from herdgate.backend import BackendSettings
from herdgate.fields import Accepted, Count, Duration, DurationOrZero, Size, Switch, no_boolean
from herdgate.state.place import ACCEPTED as STATE_URLS
from herdgate.state.place import InvalidStateURL, parse_place
from herdgate.wirevalues import is_host

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What Ollama allows without OLLAMA_ORIGINS (Ollama 0.33); same-origin pages need no entry.
OLLAMA_ORIGINS = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 -- an origin of a page, not an address to bind
        for scheme in ("http", "https")
        for port in ("", ":*")
    ),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[\w.*:\[\]-]+", re.ASCII | re.IGNORECASE)


def _listen_host(text: str) -> str:
    host = text.strip().removeprefix("[").removesuffix("]")
    if not is_host(f"[{host}]" if ":" in host else host):
        raise ValueError("this is no host name and no IP address")
    return host


def _state_url(value: SecretStr) -> SecretStr:
    try:
        parse_place(value.get_secret_value())
    except InvalidStateURL as error:
        raise ValueError(str(error).partition("; accepted:")[0]) from None
    return value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _network(value: object) -> Network:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError("this is no text")
    try:
        return ipaddress.ip_network(value.strip())
    except ValueError:
        pass
    try:
        whole = ipaddress.ip_network(value.strip(), strict=False)
    except ValueError:
        raise ValueError("this is no IP address and no network") from None
    raise ValueError(f"the address has bits outside the network: did you mean {whole}?")


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise ValueError("this is no origin: it has a scheme and a host, maybe a port, and nothing after it")
    return text.lower()


def _allowed_host(text: str) -> str:
    host = text.strip().lower()
    if not is_host(host.removeprefix("*.")) and not is_host(f"[{host}]"):
        raise ValueError("this is no host name")
    return host


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ServerSettings(_Section):
    """`[server]`: the listener and what it demands of requests. Times in seconds, sizes in bytes."""

    host: Annotated[str, AfterValidator(_listen_host), Accepted("a host name or an IP address")] = Field(
        default="127.0.0.1", description="Address to listen on."
    )
    port: Annotated[
        int, BeforeValidator(no_boolean), Field(ge=0, le=65535), Accepted("a whole number from 0 to 65535")
    ] = Field(default=11435, description="Port to listen on; 0 lets the system choose one.")
    workers: Annotated[Count, Field(le=1024), Accepted("a whole number from 1 to 1024")] = Field(
        default=1, description="Worker processes."
    )
    state: Annotated[SecretStr, AfterValidator(_state_url), Accepted(STATE_URLS)] = Field(
        description="Where keys, the catalogue and counters are kept. SQLite serves the processes of one machine, "
        "Redis several machines."
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        BeforeValidator(_lower),
        Accepted("debug, info, warning, error or critical"),
    ] = Field(default="info", description="How much is logged.")
    log_format: Annotated[
        Annotated[Literal["text", "json"], BeforeValidator(_lower)] | None, Accepted("text or json")
    ] = Field(default=None, description="Form of the log; by default text on a terminal, else json.")
    max_body: Size = Field(default=100 * 1024**2, description="Largest request body.")
    total_deadline: Duration | None = Field(
        default=None, description="Longest time for one request, all attempts and the whole stream included."
    )
    client_timeout: Duration = Field(
        default=60.0,
        description="Time for which a caller may send nothing of its request's body, or take next to nothing of its "
        "reply.",
    )
    max_stream: Size | None = Field(
        default=None, description="Longest stream that is relayed; a longer one ends with an error."
    )
    trusted_proxies: Annotated[
        tuple[Annotated[Network, BeforeValidator(_network), PlainSerializer(str)], ...],
        Accepted('a list of IP addresses and networks, such as ["10.0.0.0/8", "::1"]'),
    ] = Field(
        default=(), description="Proxies whose `X-Forwarded-For` is believed; otherwise only the peer's address is."
    )
    cors_origins: Annotated[
        tuple[Annotated[str, AfterValidator(_origin)], ...],
        Accepted('a list of origins, such as ["https://chat.example.com", "http://localhost:*"], or ["*"]'),
    ] = Field(
        default=OLLAMA_ORIGINS,
        description="Web pages that may call, `*` matching any text. A list given here replaces the default, "
        "which is Ollama's own.",
    )
    stop_delay: DurationOrZero = Field(
        default=1.0,
        description="Time for which requests are still taken after the order to stop, while `/readyz` already says "
        "503, so that a load balancer can turn elsewhere.",
    )
    drain: DurationOrZero = Field(
        default=30.0, description="Time that requests in flight then have to end; new ones get a 503."
    )
    reload_on_change: Switch = Field(
        default=False, description="Reload when `plugins.toml`, `.env` or a plugin's file changes, as on SIGHUP."
    )
    allowed_hosts: Annotated[
        tuple[Annotated[str, AfterValidator(_allowed_host)], ...],
        Accepted('a list of host names without port, such as ["gateway.example.com", "*.example.org"]'),
    ] = Field(
        default=(),
        description="Further names that `Host` may have while callers need no key, besides those Ollama accepts.",
    )


class DiscoverySettings(_Section):
    """`[discovery]`: how the backends are watched."""

    interval: Duration = Field(default=15.0, description="Time between two polls of a backend.")


class MetricsSettings(_Section):
    """`[metrics]`: who may read `/metrics`."""

    public: Switch = Field(
        default=False, description="Serve `/metrics` without an admin key, although it names backends and models."
    )


SECTIONS: Mapping[str, type[BaseModel]] = {
    "server": ServerSettings,
    "discovery": DiscoverySettings,
    "metrics": MetricsSettings,
}
TABLES = (*SECTIONS, "backend", "plugin")

#: Environment variables that stand for one key of a section.
VARIABLES: Mapping[str, tuple[str, str]] = {
    "HERDGATE_HOST": ("server", "host"),
    "HERDGATE_PORT": ("server", "port"),
    "HERDGATE_WORKERS": ("server", "workers"),
    "HERDGATE_STATE": ("server", "state"),
    "HERDGATE_LOG_LEVEL": ("server", "log_level"),
    "HERDGATE_LOG_FORMAT": ("server", "log_format"),
    "HERDGATE_DISCOVERY_INTERVAL": ("discovery", "interval"),
}
CONFIG_VARIABLE = "HERDGATE_CONFIG"
ADMIN_KEY_VARIABLE = "HERDGATE_ADMIN_KEY"
ADMIN_KEY_FILE_VARIABLE = "HERDGATE_ADMIN_KEY_FILE"
BACKENDS_VARIABLE = "OLLAMA_BACKENDS"
BASE_URL_VARIABLE = "OLLAMA_BASE_URL"
AUTH_TOKEN_VARIABLE = "OLLAMA_AUTH_TOKEN"  # noqa: S105 -- a name, not a token
KNOWN_VARIABLES = frozenset(
    {
        *VARIABLES,
        CONFIG_VARIABLE,
        ADMIN_KEY_VARIABLE,
        ADMIN_KEY_FILE_VARIABLE,
        BACKENDS_VARIABLE,
        BASE_URL_VARIABLE,
        AUTH_TOKEN_VARIABLE,
    }
)


@dataclass(frozen=True, slots=True)
class PluginEntry:
    """One `[[plugin]]` as the operator wrote it; its settings are checked later by the plugin's own model."""

    use: str
    """An entry point, `package.module:Class`, or the absolute path of a file with `:Class`."""
    settings: Mapping[str, object] = field(repr=False)
    origin: str
    """Where it is written, such as `plugins.toml:12`."""
    origins: Mapping[tuple[int | str, ...], str] = field(default_factory=dict, repr=False, compare=False)
    """The same for each of its settings, by path."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator can set, checked. It can be pickled; secrets are then in it in clear."""

    server: ServerSettings
    discovery: DiscoverySettings
    metrics: MetricsSettings
    backends: tuple[BackendSettings, ...]
    """In order of priority; those with `enabled` false are included."""
    plugins: tuple[PluginEntry, ...]
    admin_key: SecretStr | None = None
    file: Path | None = None
    """The `plugins.toml` that was read, if there is one."""
    file_is_empty: bool = False
    """Whether nothing is set in that file."""
    origins: Mapping[str, str] = field(default_factory=dict, repr=False)
    """From `server.port` or `backend[0].base_url` to where the value comes from, such as `.env:3` or `default`."""
    notices: tuple[str, ...] = ()
    """What is no mistake but probably not meant, such as a variable that has no effect."""
