"""A backend as configured, as plugins see it, and the models it lists."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Self, TypeGuard

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from herdgate.fields import Accepted, Count, Duration, Switch, path_of
from herdgate.names import ModelName, ModelPattern
from herdgate.wirevalues import check_base_url, check_headers, check_host_header, check_token

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def _slug(value: str) -> str:
    if not _SLUG.fullmatch(value):
        raise ValueError("this is not a name for a backend")
    return value


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _patterns(value: dict[str, int]) -> dict[str, int]:
    for pattern in value:
        ModelPattern.parse(pattern)
    return value


def _word(value: str) -> str:
    if not value.strip():
        raise ValueError("a tag must not be empty")
    return value.strip()


_File = Annotated[Path, Accepted("the path of a readable PEM file")]


class BackendSettings(BaseModel):
    """One Ollama server as the operator configured it, credentials included. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[
        str,
        AfterValidator(_slug),
        Accepted("1 to 63 letters, digits, - and _, the first one a letter or digit; unique, case aside"),
    ] = Field(description="What logs, metrics and `proxyctl` call this backend; case is kept as written.")
    base_url: Annotated[
        str,
        AfterValidator(check_base_url),
        Accepted('an address such as "http://gpu1:11434" or "https://example.com/ollama"'),
    ] = Field(description="Where it is; a path is put in front of every request path.")
    auth_token: Annotated[
        Annotated[SecretStr, AfterValidator(check_token)] | None,
        BeforeValidator(_blank_is_none),
        Accepted("a token of visible ASCII characters"),
    ] = Field(default=None, description="Sent as `Authorization: Bearer …` with every request.")
    headers: Annotated[
        dict[str, SecretStr], AfterValidator(check_headers), Accepted("a table of header names and values (texts)")
    ] = Field(default={}, description="Further headers sent with every request; their values are treated as secrets.")
    enabled: Switch = Field(default=True, description="False takes the backend out without deleting its entry.")
    max_concurrency: Count | None = Field(
        default=None, description="Requests that may run on it at the same time; no limit by default."
    )
    model_concurrency: Annotated[
        dict[str, Count],
        AfterValidator(_patterns),
        Accepted('a table of model patterns and whole numbers, such as {"llama3.3:70b" = 1, "*" = 4}'),
    ] = Field(
        default={},
        description="The same for each single model: of the patterns that match its name the first counts.",
    )
    connect_timeout: Duration = Field(default=3.0, description="Time to connect, TLS included.")
    first_event_timeout: Duration = Field(
        default=600.0,
        description="Silence allowed from sending the request to the first event; a model load is silent for minutes.",
    )
    idle_timeout: Duration = Field(default=300.0, description="Silence allowed inside a stream.")
    verify: Switch = Field(default=True, description="False accepts any TLS certificate: for experiments only.")
    ca_file: _File | None = Field(default=None, description="Certificates (PEM) to trust instead of the usual ones.")
    client_cert: _File | None = Field(default=None, description="Client certificate (PEM) for mutual TLS.")
    client_key: _File | None = Field(
        default=None, description="Its private key (PEM, not encrypted), if it is not in the same file."
    )
    host_header: (
        Annotated[str, AfterValidator(check_host_header), Accepted("a host name, with or without a port")] | None
    ) = Field(default=None, description="Sent as `Host` instead of the host of base_url.")
    cloud: Switch = Field(
        default=False, description="Whether models that run in Ollama's cloud may be used through it."
    )
    tags: Annotated[tuple[Annotated[str, AfterValidator(_word)], ...], Accepted("a list of words")] = Field(
        default=(), description="Free words for routing plugins."
    )

    @field_validator("ca_file", "client_cert", "client_key", mode="after")
    @classmethod
    def _readable(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return None
        base: Path = (info.context or {}).get("directory", Path.cwd())
        path = base / path_of(str(value))
        try:
            path.read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None
        return path

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.auth_token and "authorization" in map(str.lower, self.headers):
            raise ValueError("give auth_token or an Authorization header, not both")
        if self.client_key and not self.client_cert:
            raise ValueError("client_key needs client_cert")
        _try_tls_files(self)
        return self

    def view(self) -> Backend:
        """Return what plugins may see of this backend: no credentials, no paths of files."""
        limits = tuple((ModelPattern.parse(pattern), limit) for pattern, limit in self.model_concurrency.items())
        return Backend(self.name, self.base_url, self.tags, self.cloud, self.max_concurrency, limits)


def _try_tls_files(settings: BackendSettings) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.ca_file:
        try:
            context.load_verify_locations(cafile=settings.ca_file)
        except (ssl.SSLError, ValueError):
            raise ValueError(f"ca_file {settings.ca_file} holds no PEM certificate") from None
    if settings.client_cert:
        try:
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(settings.client_cert, settings.client_key, password="")
        except (ssl.SSLError, ValueError):
            raise ValueError(
                f"client_cert {settings.client_cert} with its key is not a PEM certificate and a matching private key "
                "without a password"
            ) from None


@dataclass(frozen=True, slots=True)
class Backend:
    """One backend as plugins see it. `model_concurrency` are the limits of single models; of those that match the first
    counts.
    """

    name: str
    base_url: str
    tags: tuple[str, ...] = ()
    cloud: bool = False
    max_concurrency: int | None = None
    model_concurrency: tuple[tuple[ModelPattern, int], ...] = ()


# What Go writes for a time that was never set; clients parse the field, so it cannot be left empty.
_NO_TIME = "0001-01-01T00:00:00Z"
# RFC 3339 as Go's decoder and browsers read it: the letters in upper case, the zone present.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DETAIL_TEXTS = ("parent_model", "format", "family", "parameter_size", "quantization_level")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model as one backend lists it in `/api/tags`."""

    name: ModelName
    digest: str
    size: int
    modified_at: str
    raw: Mapping[str, object] = field(hash=False)
    cloud: bool = field(init=False, repr=False, compare=False)
    """Whether prompts for it leave the backend for a third party."""

    def __post_init__(self) -> None:
        # The name alone suffices: Ollama ≥ 0.17.6 sends every cloud name to ollama.com, whatever is stored under it.
        remote = self.raw.get("remote_host") or self.raw.get("remote_model")
        object.__setattr__(self, "cloud", self.name.source == "cloud" or bool(remote))

    @classmethod
    def from_tags(cls, listed: object) -> ModelEntry:
        """Read one object of `models` in a reply of `/api/tags`.

        Only the name is needed; whatever else is missing, of another type, or beyond JSON (NaN, Infinity, which Python
        reads and writes but clients do not) counts as not known.
        Raises `ValueError` for anything that names no model.
        """
        if not isinstance(listed, Mapping):
            raise ValueError("an entry of the model list is not an object")
        name = listed.get("name") or listed.get("model")
        if not isinstance(name, str):
            raise ValueError("an entry of the model list has no name")
        listed = {key: value for key, value in listed.items() if _is_finite(value)}
        digest, size, modified_at = listed.get("digest"), listed.get("size"), listed.get("modified_at")
        return cls(
            name=ModelName.parse(name),
            digest=digest.removeprefix("sha256:") if isinstance(digest, str) else "",
            size=size if _is_integer(size) and 0 <= size < 2**63 else 0,
            modified_at=modified_at if isinstance(modified_at, str) and _seconds(modified_at) is not None else "",
            raw=listed,
        )

    @property
    def modified(self) -> float:
        """`modified_at` in seconds since 1970, 0 when it is not known: for sorting across time zones."""
        return max(0.0, _seconds(self.modified_at) or 0.0)

    def as_tags(self) -> dict[str, object]:
        """Return the entry for `/api/tags`: what the backend sent, with every field that clients rely on."""
        entry = {**self.raw, "name": self.name.display, "model": self.name.display}
        entry["modified_at"] = self.modified_at or _NO_TIME
        entry["size"] = self.size
        entry["digest"] = self.digest
        entry["details"] = _details(self.raw.get("details"))
        for key in ("remote_model", "remote_host"):
            if not isinstance(entry.get(key, ""), str):
                del entry[key]
        if not _is_texts(entry.get("capabilities", [])):
            del entry["capabilities"]
        return entry

    def as_openai(self) -> dict[str, object]:
        """Return the entry for `/v1/models`; `created` is in whole seconds, `owned_by` is the namespace."""
        return {
            "id": self.name.display,
            "object": "model",
            "created": int(self.modified),
            "owned_by": self.name.namespace,
        }


class Candidate(msgspec.Struct, frozen=True):
    """A backend that holds the model asked for."""

    # As immutable as a frozen dataclass, and made in a fraction of the time: each request makes one for each holder.
    backend: Backend
    model: ModelEntry
    gone: bool = False
    """True when the backend has not answered for so long that its models left the listings."""


def _details(sent: object) -> dict[str, object]:
    """Return `details` complete and of the right types: clients read its texts without asking whether they exist."""
    details: dict[str, object] = dict(sent) if isinstance(sent, Mapping) else {}
    for key in _DETAIL_TEXTS:
        if not isinstance(details.get(key), str):
            details[key] = ""
    if not _is_texts(details.get("families")):
        details["families"] = None
    return details


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _is_finite(value: object) -> bool:
    """Whether every number in this is one that JSON has; False for what nests too deeply to be looked through."""
    try:
        match value:
            case float():
                return math.isfinite(value)
            case Mapping():
                return all(map(_is_finite, value.values()))
            case list() | tuple():
                return all(map(_is_finite, value))
    except RecursionError:
        return False
    return True


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _seconds(timestamp: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 time (fractions of any length, as Go writes them), None if it is none."""
    if not _TIME.fullmatch(timestamp):
        return None
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except (ValueError, OverflowError):
        return None
