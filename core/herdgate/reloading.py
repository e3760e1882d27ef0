"""What a reload may change, what is said of it, and when a changed file asks for one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from herdgate.config import ConfigError, Settings

log = logging.getLogger("herdgate")

FIXED = ("host", "port", "workers", "state", "log_format")
"""Settings of `[server]` that a process cannot change while it runs."""
LOOK_EVERY = 1.0
"""Seconds between two looks at the files."""

_Seen = tuple[int, int, int] | None


def without_fixed(settings: Settings, present: Settings) -> tuple[Settings, tuple[str, ...]]:
    """The new settings as far as they can be taken over, and the names of those that have to wait for a restart."""
    waiting = tuple(name for name in FIXED if getattr(settings.server, name) != getattr(present.server, name))
    kept = {name: getattr(present.server, name) for name in waiting}
    return replace(settings, server=settings.server.model_copy(update=kept)), waiting


def files_of(settings: Settings, directory: Path) -> list[Path]:
    """The files that these settings were read from, or would be if they were there, and those of plugins."""
    locations = (entry.use.rpartition(":")[0] for entry in settings.plugins)
    plugins = [Path(location) for location in locations if location.endswith(".py")]
    return [settings.file or directory / "plugins.toml", directory / ".env", *plugins]


class FileWatch:
    """Notices that files have changed, once they have stopped changing: a file is not read while it is written."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = list(files)
        self._known = self._last = self._look()

    def changed(self) -> bool:
        """Whether the files are not as they were when `catch_up` was called, and rest since the last look."""
        last, self._last = self._last, self._look()
        return self._last == last != self._known

    def catch_up(self) -> None:
        """What there is now is known: to be called before the files are read."""
        self._known = self._last = self._look()

    def _look(self) -> tuple[_Seen, ...]:
        return tuple(_seen(file) for file in self.files)


def _seen(file: Path) -> _Seen:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _lost(settings: Settings, present: Settings) -> str:
    """Why these settings come from the loss of a file and not from a change to it; empty if they do not.

    Without its file a gateway would begin anew: with the built-in plugins, and with none of its backends and denials.
    """
    if present.file is None or present.file_is_empty:
        return ""
    if settings.file is None:
        how = "is not named any more" if present.file.exists() else "is gone"
    elif settings.file == present.file and settings.file_is_empty:
        how = "is empty"
    else:
        return ""
    return f"{present.file}, which the present configuration came from, {how}; to go on without it takes a restart"


def read_anew(read: Callable[[], Settings], present: Settings) -> Settings | None:
    """What the files say now, as far as it can be taken over; None if they have mistakes or are lost. Either is told in
    the log.

    Never raises: whoever asks goes on with what there is.
    """
    try:
        settings, waiting = without_fixed(read(), present)
    except ConfigError as error:
        tell_refused(error)
        return None
    except Exception:
        log.exception("the configuration is not reloaded, the present one stays")
        return None
    if lost := _lost(settings, present):
        tell_refused(lost)
        return None
    for notice in settings.notices:
        log.warning("%s", notice)
    if waiting:
        log.warning("these settings cannot change without a restart, the present ones stay: %s", ", ".join(waiting))
    if present.server.reload_on_change and not settings.server.reload_on_change:
        log.warning("reload_on_change is off in the new configuration: from then on only SIGHUP has it read anew")
    return settings


def tell_refused(why: object) -> None:
    """Say that nothing has changed."""
    log.error("the configuration is not reloaded, the present one stays: %s", _one_line(str(why)))


def tell_reloaded() -> None:
    """Say that everything has changed."""
    log.info("reloaded: the new configuration serves from now on; requests in flight keep the one they began with")


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines())
