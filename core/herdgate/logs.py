"""The log of a process: one record per line on stderr, as text for people or as JSON for machines.

What was passed as `extra` to a logging call is part of the line: the request, the caller, the backend, the seconds.
Secrets are taken out of every line, tracebacks included: those that the settings hold, and whatever looks like a key,
a bearer token or the password in a URL.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import TextIO
from urllib.parse import quote

import msgspec

from herdgate.config import MASK, Settings
from herdgate.config.problems import shown
from herdgate.eventlog import LineFormatter
from herdgate.state.place import RedisPlace, parse_place

_NOISY = ("asyncio", "httpcore", "httpx", "redis", "sanic")
"""Libraries that report at INFO what is no news here, such as every request of every poll."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SHORTEST_SECRET = 4
"""Characters below which a secret is more likely to occur by coincidence."""
_LOOKS_SECRET = re.compile(r"\bhg_[\w-]{16,}|(?<=[Bb]earer )[^\s\"',]+|(?<=://)[^\s/@]+(?=@)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]|\n(?!\Z)")
_LEVELS = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}
_pid = cache(os.getpid)  # a system call less for each line
os.register_at_fork(after_in_child=_pid.cache_clear)
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31;1m"}


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all logging of this process to `stream` (stderr), in the form and from the level that the settings name."""
    stream = stream or sys.stderr
    terminal = stream.isatty()
    form = settings.server.log_format or ("text" if terminal else "json")
    redact = Redactor(_secrets(settings))
    colour = terminal and not os.environ.get("NO_COLOR")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(redact) if form == "json" else TextLines(redact, colour=colour))
    level = settings.server.log_level.upper()
    handler.setLevel(level)  # libraries have levels of their own, see below
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def mask_too(settings: Settings) -> None:
    """From now on mask the secrets of these settings as well as those from before."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonLines | TextLines):
            handler.formatter.redact.learn(_secrets(settings))


def set_level(settings: Settings) -> None:
    """Log from the level that these settings name."""
    level = settings.server.log_level.upper()
    root = logging.getLogger()
    root.setLevel(level)
    for handler in root.handlers:
        if isinstance(handler.formatter, JsonLines | TextLines):
            handler.setLevel(level)


@contextmanager
def faults_untold() -> Iterator[None]:
    """Keep faults of plugins out of the log, but for debugging: here each is reported as, or in, an answer."""
    faults = logging.getLogger("herdgate.plugins")

    def told(_: logging.LogRecord) -> bool:
        return faults.isEnabledFor(logging.DEBUG)

    faults.addFilter(told)
    try:
        yield
    finally:
        faults.removeFilter(told)


class Redactor:
    """Takes secrets out of texts."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: list[str] = []
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these as well."""
        spellings = {
            spelling
            for secret in secrets
            if len(secret) >= _SHORTEST_SECRET
            for spelling in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
        }
        self._secrets = sorted(spellings.union(self._secrets), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text with a mask in the place of each secret."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        if "hg_" in text or "earer " in text or "@" in text:
            text = _LOOKS_SECRET.sub(MASK, text)
        return text


class JsonLines(LineFormatter):
    """One JSON object per record; times in UTC."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self.redact = redact
        self._encode = msgspec.json.Encoder(enc_hook=str).encode

    def format(self, record: logging.LogRecord) -> str:
        """The object, without a line break in it."""
        fields = _extras(record)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return self.line(record.created, record.levelno, record.name, record.getMessage(), fields)

    def line(self, created: float, level: int, logger: str, message: str, fields: Mapping[str, object]) -> str:
        """See `LineFormatter`."""
        head = {
            "time": _utc(int(created * 1000)),
            "level": _LEVELS.get(level) or logging.getLevelName(level).lower(),
            "logger": logger,
            "message": message,
            "pid": _pid(),
        }
        said = {**head, **fields, **head}  # a field has its place behind the head, and cannot replace any of it
        try:
            line = self._encode(said).decode()
        except UnicodeEncodeError:  # bytes that were no UTF-8, in a text that Python made of them all the same
            line = json.dumps(_without_none(said), default=str)
        else:
            if ":null" in line:  # hardly ever: looking for it here costs less than looking at every field
                line = self._encode(_without_none(said)).decode()
        return self.redact(line)


class TextLines(LineFormatter):
    """A line for people, in local time. Control characters are escaped, so that no text can pass for another line."""

    def __init__(self, redact: Redactor, *, colour: bool) -> None:
        super().__init__()
        self.redact = redact
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it the traceback if there is one."""
        line = self.line(record.created, record.levelno, record.name, record.getMessage(), _extras(record))
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line = "\n".join([line, *(f"  {_escaped(part)}" for part in self.redact(trace).splitlines())])
        return line

    def line(self, created: float, level: int, logger: str, message: str, fields: Mapping[str, object]) -> str:
        """See `LineFormatter`."""
        name = logging.getLevelName(level)
        shown = f"{name:<7}"
        if self._colour and name in _COLOURS:
            shown = f"{_COLOURS[name]}{shown}\x1b[0m"
        extras = "".join(f" {key}={_shown(value)}" for key, value in fields.items() if value is not None)
        head = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(created))}.{int(created % 1 * 1000):03d}"
        return self.redact(f"{head} {shown} {logger.removeprefix('herdgate.')}: {_escaped(message)}{extras}")


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return _without_none({name: value for name, value in vars(record).items() if name not in _STANDARD})


def _without_none(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _shown(value: object) -> str:
    text = _escaped(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text


def _escaped(text: str) -> str:
    return text if text.isprintable() else _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


@lru_cache(maxsize=4)
def _utc(milliseconds: int) -> str:
    second, fraction = divmod(milliseconds, 1000)
    return f"{_utc_second(second)}.{fraction:03d}Z"


@lru_cache(maxsize=4)
def _utc_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _secrets(settings: Settings) -> Iterator[str]:
    """Every secret that the settings hold."""
    if settings.admin_key is not None:
        yield settings.admin_key.get_secret_value()
    place = parse_place(settings.server.state.get_secret_value())
    if isinstance(place, RedisPlace) and place.password is not None:
        password = place.password.get_secret_value()
        yield from (password, quote(password, safe=""))
    for backend in settings.backends:
        if backend.auth_token is not None:
            yield backend.auth_token.get_secret_value()
        yield from (value.get_secret_value() for value in backend.headers.values())
    for entry in settings.plugins:
        yield from _named_secrets(entry.settings)


def _named_secrets(values: Mapping[str, object]) -> Iterator[str]:
    """The texts in a plugin's settings whose names, or looks, say that they are secret."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _named_secrets(value)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and shown(text, name) != shown(text):
                yield text
