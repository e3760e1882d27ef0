"""Herdgate: a gateway in front of several Ollama servers whose every decision is a plugin.

What a plugin author imports stands in `__all__`; nothing else is public. The names are loaded when they are first
used, so that
`import herdgate` alone costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from herdgate.access import Action as Action
    from herdgate.access import Allow as Allow
    from herdgate.access import Credentials as Credentials
    from herdgate.access import Deny as Deny
    from herdgate.access import Identity as Identity
    from herdgate.access import Refusal as Refusal
    from herdgate.access import Rejected as Rejected
    from herdgate.access import Resource as Resource
    from herdgate.access import Verdict as Verdict
    from herdgate.app import App as App
    from herdgate.app import CannotStart as CannotStart
    from herdgate.app import Fleet as Fleet
    from herdgate.backend import Backend as Backend
    from herdgate.backend import BackendSettings as BackendSettings
    from herdgate.backend import Candidate as Candidate
    from herdgate.backend import ModelEntry as ModelEntry
    from herdgate.body import Body as Body
    from herdgate.errors import Reply as Reply
    from herdgate.errors import denial as denial
    from herdgate.errors import message_of as message_of
    from herdgate.eventlog import log_event as log_event
    from herdgate.exchange import Attempt as Attempt
    from herdgate.exchange import AttemptOutcome as AttemptOutcome
    from herdgate.exchange import Exchange as Exchange
    from herdgate.exchange import Head as Head
    from herdgate.exchange import Outcome as Outcome
    from herdgate.exchange import Summary as Summary
    from herdgate.exchange import UpstreamRequest as UpstreamRequest
    from herdgate.failure import Failure as Failure
    from herdgate.failure import GiveUp as GiveUp
    from herdgate.failure import Kind as Kind
    from herdgate.failure import Phase as Phase
    from herdgate.failure import Skip as Skip
    from herdgate.failure import TryNext as TryNext
    from herdgate.fields import Duration as Duration
    from herdgate.hooks import BackendSource as BackendSource
    from herdgate.hooks import ContextManager as ContextManager
    from herdgate.hooks import StreamFilter as StreamFilter
    from herdgate.hooks import hookimpl as hookimpl
    from herdgate.keys import KeyIndex as KeyIndex
    from herdgate.keys import KeyRecord as KeyRecord
    from herdgate.keys import KeyStore as KeyStore
    from herdgate.keys import Refused as Refused
    from herdgate.keys import hash_secret as hash_secret
    from herdgate.metrics import Metric as Metric
    from herdgate.names import InvalidModelName as InvalidModelName
    from herdgate.names import ModelName as ModelName
    from herdgate.names import ModelPattern as ModelPattern
    from herdgate.routes import Call as Call
    from herdgate.routes import Route as Route
    from herdgate.routes import StreamedReply as StreamedReply
    from herdgate.state import State as State
    from herdgate.state import StateUnavailable as StateUnavailable
    from herdgate.surface import Endpoint as Endpoint
    from herdgate.surface import Family as Family

__version__ = "0.1.0"

_HOMES = {
    "access": "Action Allow Credentials Deny Identity Refusal Rejected Resource Verdict",
    "app": "App CannotStart Fleet",
    "backend": "Backend BackendSettings Candidate ModelEntry",
    "body": "Body",
    "errors": "Reply denial message_of",
    "eventlog": "log_event",
    "exchange": "Attempt AttemptOutcome Exchange Head Outcome Summary UpstreamRequest",
    "failure": "Failure GiveUp Kind Phase Skip TryNext",
    "fields": "Duration",
    "hooks": "BackendSource ContextManager StreamFilter hookimpl",
    "keys": "KeyIndex KeyRecord KeyStore Refused hash_secret",
    "metrics": "Metric",
    "names": "InvalidModelName ModelName ModelPattern",
    "routes": "Call Route StreamedReply",
    "state": "State StateUnavailable",
    "surface": "Endpoint Family",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    *sorted(_HOME_OF),
    "__version__",
]


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"herdgate.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
