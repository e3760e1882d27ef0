"""File descriptors: a stream needs two of them, and the usual limit of 1,024 is soon reached."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import time
from pathlib import Path
from typing import Protocol
from weakref import WeakSet

log = logging.getLogger("herdgate")

TELL_EVERY = 60.0
"""Seconds between two lines of the log about the same shortage."""

_STDERR = 2
SHORT = (errno.EMFILE, errno.ENFILE)
"""The errors of who gets no descriptor."""
_told_at = float("-inf")


class Hoard(Protocol):
    """What keeps descriptors that it could do without."""

    def give_up(self) -> None:
        """Close them."""


_hoards: WeakSet[Hoard] = WeakSet()
add_hoard = _hoards.add
"""Have this give up what it keeps when no descriptor is left; it may be forgotten without a word."""


def raise_limit() -> None:
    """Allow this process, and those that it starts, as many as the system lets it have.

    The low limit is there for programs that use `select`, as nobody here does.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):  # not everywhere, and never worth not to start
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def fill_standard() -> None:
    """Open what is closed of stdin, stdout and stderr (`2>&-`); what is written there goes nowhere.

    Otherwise the next socket or file would get the number of stderr, and with it whatever a library writes there.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(opened)
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open to the end
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def ran_out(error: BaseException | None) -> bool:
    """Whether this happened because no descriptor was left.

    Then the log says so, and what to do, and what could be closed is closed: for those who come next.
    """
    global _told_at
    if not isinstance(error, OSError) or error.errno not in SHORT:
        return False
    if time.monotonic() - _told_at >= TELL_EVERY:
        _told_at = time.monotonic()
        whose = "this process" if error.errno == errno.EMFILE else "this machine"
        log.error("%s has no file descriptor left: raise its limit (ulimit -n), each stream needs two", whose)
    for hoard in list(_hoards):
        hoard.give_up()
    return True
