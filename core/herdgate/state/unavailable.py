"""The error of the state stores."""


class StateUnavailable(Exception):  # noqa: N818
    """The state cannot be reached, cannot be used, or did not answer in time.

    The message says which store, why, and what to do; it never holds credentials.
    """


class StateAbsent(StateUnavailable):
    """The state file was not made yet, and who wanted it was not to make it."""
