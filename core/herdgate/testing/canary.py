"""Secrets that must not be seen again once they were sent, and what is heard of a plugin meanwhile."""

from __future__ import annotations

import io
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field

from herdgate.testing.decisions import Decision
from herdgate.testing.simulated import SimulatedOllama

_NOISY = ("asyncio", "httpcore", "httpx", "sanic")


@dataclass
class Heard:
    """What the log said of plugins, and where a secret was seen."""

    complaints: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)


class Canary:
    """A key that callers send along in every way they can."""

    def __init__(self) -> None:
        self._secret = f"hg_canary{secrets.token_hex(16)}"

    @property
    def headers(self) -> dict[str, str]:
        """What a caller sends who wants to be known."""
        return {"authorization": f"Bearer {self._secret}", "cookie": f"session={self._secret}"}

    @contextmanager
    def listening(self) -> Iterator[Heard]:
        """Read the whole log, at every level, and what is printed."""
        heard = Heard()
        root, listener = logging.getLogger(), _Listener(heard, self._secret)
        before, quiet = root.level, [(logging.getLogger(name), logging.getLogger(name).level) for name in _NOISY]
        printed = io.StringIO()
        root.addHandler(listener)
        root.setLevel(logging.DEBUG)
        for logger, _ in quiet:
            logger.setLevel(logging.WARNING)
        try:
            with redirect_stdout(printed), redirect_stderr(printed):
                yield heard
        finally:
            root.setLevel(before)
            root.removeHandler(listener)
            for logger, level in quiet:
                logger.setLevel(level)
        if self._secret in printed.getvalue():
            heard.secrets.append("it prints what a caller sends as a key")

    def kept_by(self, plugin: object) -> list[str]:
        """Whether the plugin keeps the secret where its text can be read."""
        texts = {"repr": repr(plugin), **{name: repr(value) for name, value in _attributes(plugin)}}
        return [f"it keeps a caller's key in clear ({name})" for name, text in texts.items() if self._secret in text]

    def told_by(self, decisions: Sequence[Decision], plugin: str) -> list[str]:
        """Whether an answer of this plugin shows it."""
        telling = {each.hook for each in decisions if each.plugin == plugin and self._secret in repr(each.answer)}
        return [f"{hook}: its answer holds a caller's key in clear" for hook in sorted(telling)]

    def sent_to(self, backend: SimulatedOllama) -> list[str]:
        """Whether it went to a backend."""
        told = any(self._secret in str(each.headers) + repr(each.body) for each in backend.requests)
        return ["it sends a caller's key to a backend"] if told else []


def _attributes(plugin: object) -> list[tuple[str, object]]:
    return list(getattr(plugin, "__dict__", {}).items())


class _Listener(logging.Handler):
    def __init__(self, heard: Heard, secret: str) -> None:
        super().__init__(logging.DEBUG)
        self._heard = heard
        self._secret = secret

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.name == "herdgate.plugins" and record.levelno >= logging.WARNING:
            self._heard.complaints.append(text)
        shown = f"{text} {record.__dict__} {record.exc_info[1] if record.exc_info else ''}"
        if self._secret in shown:
            self._heard.secrets.append(f"it writes a caller's key to the log ({record.name})")
