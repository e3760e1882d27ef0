"""The one error of the state stores."""


class StateUnavailable(Exception):  # noqa: N818
    """The state cannot be reached, cannot be used, or did not answer in time.

    The message says which store, why, and what to do; it never holds credentials.
    """
