"""What a failed call to Redis means for the operator, in one clause without credentials.

No error reply is shown whole: Redis may repeat in it what it was sent.
"""

import socket
import ssl

from redis import exceptions

NO_ANSWER = "it did not answer in time"

_CLUSTER = "it belongs to a Redis Cluster, which is not supported: name a single server"

# redis-py takes the code off replies that it has a class for; replies from inside a script keep it in their text.
_REPLIES: tuple[tuple[type[Exception] | None, str, str], ...] = (
    (exceptions.NoPermissionError, "NOPERM", "allow this user @hash, @string, @scripting, TIME and ~herdgate:*"),
    (exceptions.ReadOnlyError, "READONLY", "it is a read-only replica: name the primary"),
    (exceptions.OutOfMemoryError, "OOM", "it is out of memory: raise its maxmemory"),
    (exceptions.MasterDownError, "MASTERDOWN", "it is a replica without its primary: name the primary"),
    (exceptions.AskError, "MOVED", _CLUSTER),
    (exceptions.ClusterDownError, "CLUSTERDOWN", _CLUSTER),
    (None, "MISCONF", "it refuses to write because it cannot save to its disk"),
    (None, "DB index", "it has no database of that number"),
    (None, "WRONGTYPE", "other software uses keys herdgate:* there: choose another database number"),
)


def is_outage(error: Exception) -> bool:
    """Return whether the server itself is out of order, so that the next call would fail as well."""
    if isinstance(error, exceptions.AuthenticationError):  # for redis-py a kind of ConnectionError
        return False
    return isinstance(error, OSError | exceptions.ConnectionError | exceptions.TimeoutError)


def explain(error: Exception) -> str:
    """Say why the call failed and, where that is known, what to do."""
    match error:
        case exceptions.AuthenticationError():
            return "it refuses the user name or password, or wants one: put them into the URL of the state store"
        case exceptions.BusyLoadingError():
            return "it is still loading its data"
        case exceptions.TimeoutError():
            return NO_ANSWER
        case exceptions.ResponseError():
            return _explain_reply(error)
        case _:
            return _explain_connection(error)


def _explain_reply(error: exceptions.ResponseError) -> str:
    for kind, code, advice in _REPLIES:
        if (kind and isinstance(error, kind)) or code in str(error):
            return advice
    code = str(error).partition(" ")[0]
    return f"it answers with the error {code}" if code.isalpha() and code.isupper() else "it answers with an error"


def _explain_connection(error: BaseException) -> str:
    cause: BaseException | None = error
    while isinstance(cause, exceptions.RedisError):  # what the operating system said is behind what redis-py says
        cause = cause.__cause__ or cause.__context__
    match cause:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({cause.verify_message}): name the authority by ?ssl_ca_certs=FILE"
        case ssl.SSLError():
            return "TLS with it fails (rediss:// is with TLS, redis:// without)"
        case FileNotFoundError() | PermissionError():
            return f"a certificate file named in its URL cannot be read ({cause.strerror})"
        case socket.gaierror():
            return "its host name is not known"
        case ConnectionRefusedError():
            return "it refuses connections: is it running, at this host and port?"
        case _:
            return "the connection failed or was closed (rediss:// is with TLS, redis:// without)"
