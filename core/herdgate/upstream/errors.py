"""What goes wrong with a socket, in the words of httpx. The one place where the two meet.

=========================  ======================================================================
ConnectError               no connection, or no TLS; the backend has not seen the request
ConnectTimeout             the same, for lack of time
WriteError, WriteTimeout   the request was not sent to its end
ReadError                  the connection broke while the response was awaited or arriving
ReadTimeout                the backend was silent for too long
RemoteProtocolError        the backend broke HTTP, or closed before the end of its response
LocalProtocolError         the request is not HTTP; nothing was sent
=========================  ======================================================================
"""

import os
import socket
import ssl

import httpx

from herdgate.upstream.origin import Origin

_HOSTNAME_MISMATCH = 62
_IP_ADDRESS_MISMATCH = 64
_CERTIFICATE_REFUSED = ("CERTIFICATE_REQUIRED", "UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN")
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")


def connect_error(origin: Origin, cause: Exception) -> httpx.ConnectError:
    """Say why there is no connection to ``origin``."""
    if isinstance(cause, ssl.SSLError):
        why = f"TLS with {origin} failed: {_explain_tls(origin, cause)}"
    elif isinstance(cause, socket.gaierror | UnicodeError):
        why = f"cannot resolve the host name of {origin}: {_explain(cause)}"
    else:
        why = f"cannot connect to {origin}: {_explain(cause)}"
    error = httpx.ConnectError(why)
    error.__cause__ = cause
    return error


def lost_error(origin: Origin, cause: Exception, *, sent: bool) -> httpx.NetworkError:
    """Say why an open connection ended.

    With TLS 1.3 a server judges the client's certificate after the client believes that all is well and has
    sent its request. The refusal is still one of connecting: the server never looks at the request.
    """
    if isinstance(cause, ssl.SSLError) and _refuses_certificate(cause):
        return connect_error(origin, cause)
    error: httpx.NetworkError
    if sent:
        error = httpx.ReadError(f"the connection to {origin} broke: {_explain(cause)}")
    else:
        error = httpx.WriteError(f"the connection to {origin} broke during the request: {_explain(cause)}")
    error.__cause__ = cause
    return error


def _explain(cause: Exception) -> str:
    if isinstance(cause, OSError) and cause.errno and not isinstance(cause, socket.gaierror):
        return os.strerror(cause.errno)  # asyncio puts the address in place of the reason
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _reason(cause: ssl.SSLError) -> str:
    return getattr(cause, "reason", None) or ""  # OpenSSL sets it, the constructor does not


def _refuses_certificate(cause: ssl.SSLError) -> bool:
    return any(word in _reason(cause) for word in _CERTIFICATE_REFUSED)


def _explain_tls(origin: Origin, cause: ssl.SSLError) -> str:
    if isinstance(cause, ssl.SSLEOFError):
        return "the server closed the connection; does it speak TLS on this port?"
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in (_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH):
            return f"its certificate is not for {origin.tls_name!r}"
        return f"its certificate is not trusted ({cause.verify_message})"
    reason = _reason(cause)
    if _refuses_certificate(cause) or "HANDSHAKE_FAILURE" in reason:
        return f"the server refused us ({reason}); does it want a client certificate, or another one?"
    if reason in _NO_TLS:
        return f"the server does not seem to speak TLS on this port ({reason})"
    return reason or _explain(cause)
