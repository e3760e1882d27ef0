"""Why a backend does not answer as it should, in words that say what to do."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass

import httpx

from herdgate.backend import BackendSettings
from herdgate.faults import PluginFault
from herdgate.upstream.client import UpstreamFailed


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`cause` is one word for programs, `text` is for people."""

    cause: str
    text: str


def diagnose(error: Exception, settings: BackendSettings, timeout: float) -> Diagnosis:
    """Explain what was raised while a backend was asked; `timeout` is in seconds."""
    match cause := error.__cause__ if isinstance(error, UpstreamFailed) else error:
        case httpx.HTTPStatusError():
            return _of_status(cause.response, settings)
        case httpx.ConnectTimeout():
            return Diagnosis("timeout", f"no connection in time; is {settings.base_url} the right address?")
        case TimeoutError() | httpx.TimeoutException():
            return Diagnosis("timeout", f"no answer within {timeout:g} s")
        case httpx.ConnectError():
            return _of_connecting(cause)
        case httpx.RemoteProtocolError():
            return Diagnosis("protocol", f"what answers there does not speak HTTP as it should: {error}")
        case httpx.HTTPError():
            return Diagnosis("broken", f"the connection broke: {error}")
        case json.JSONDecodeError() | UnicodeDecodeError():
            return Diagnosis("not_ollama", "the answer is no JSON: is this an Ollama server?")
        case PluginFault():
            return Diagnosis("plugin", str(error))
        case ValueError():
            return Diagnosis("not_ollama", f"{error}: is this an Ollama server?")
        case _:
            return Diagnosis("unknown", f"{type(error).__name__}: {error}")


def _of_connecting(error: httpx.ConnectError) -> Diagnosis:
    cause, said = error.__cause__, str(error)
    if isinstance(cause, ssl.SSLError):
        advice = " (ca_file names certificates to trust)" if isinstance(cause, ssl.SSLCertVerificationError) else ""
        return Diagnosis("tls", f"{said}{advice}")
    if isinstance(cause, socket.gaierror | UnicodeError):
        return Diagnosis("dns", said)
    if isinstance(cause, ConnectionRefusedError) or "refused" in said:
        return Diagnosis("refused", f"{said}; is a server running there?")
    return Diagnosis("unreachable", said)


def _of_status(response: httpx.Response, settings: BackendSettings) -> Diagnosis:
    status, path = response.status_code, response.request.url.path
    if status == 401:
        told = settings.auth_token is not None or any(name.lower() == "authorization" for name in settings.headers)
        advice = "it does not accept our credentials" if told else "it wants credentials: set auth_token"
        return Diagnosis("auth", f"401 for {path}: {advice}")
    if status == 403 and not response.content:
        # Ollama refuses a Host (or Origin) that it does not know in just this way, when it listens on loopback.
        return Diagnosis(
            "host", f"403 without a word for {path}: an Ollama says so to a Host it does not know; set host_header"
        )
    if status == 403:
        return Diagnosis("auth", f"403 for {path}: we may not ask; look at auth_token and headers")
    if response.is_redirect:
        return Diagnosis("redirect", f"{status} for {path}: it sends us elsewhere; put the final address into base_url")
    if status == 404:
        return Diagnosis("not_ollama", f"404 for {path}: is this an Ollama server, and does base_url need a path?")
    return Diagnosis("status", f"status {status} for {path}")
