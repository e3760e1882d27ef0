"""Which exceptions are answers for the operator, and their exit codes. Everything else is a bug and shows itself."""

from __future__ import annotations

import click

from herdgate.keys import BadKey, KeyProblem
from herdgate.startup import EXIT_CODE, START_FAILURES


class BadAnswer(click.ClickException):
    """What was asked for cannot be had."""

    exit_code = 1


class BadUsage(click.ClickException):
    """The command line or the configuration is to be put right."""

    exit_code = EXIT_CODE


def for_people(error: Exception) -> click.ClickException | None:
    """The error as click shows it: its message on stderr. None if it is not meant for people."""
    if isinstance(error, (*START_FAILURES, BadKey)):
        return BadUsage(str(error))
    if isinstance(error, KeyProblem):
        return BadAnswer(str(error))
    return None
