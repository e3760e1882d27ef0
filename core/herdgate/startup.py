"""What may keep a gateway from starting through no fault of its code."""

from herdgate.app import CannotStart
from herdgate.config import ConfigError
from herdgate.faults import PluginFault
from herdgate.state import StateUnavailable
from herdgate.upstream.tls import TlsConfigError

START_FAILURES = (CannotStart, ConfigError, PluginFault, StateUnavailable, TlsConfigError)
"""Exceptions whose message is for the operator and says all there is to say."""
EXIT_CODE = 2
"""Of a process that ended with one of them."""
