"""Look at the first event before anything is released: an error in a 200, or something that is no JSON, is a failure.

Servers before Ollama 0.12.6 answer a failed streaming request with 200 and put `{"error": …}` on the first line.
"""

from __future__ import annotations

import msgspec

from herdgate import Exchange, Failure, Family, Head, Kind, Phase, hookimpl, message_of

_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_NO_ERROR = msgspec.Raw(b"null")


class _Reply(msgspec.Struct, gc=False):
    error: msgspec.Raw = _NO_ERROR


# Values are checked but not built: a reply of embeddings has megabytes of numbers, and this runs in the event loop.
_TOP_LEVEL = msgspec.json.Decoder(dict[str, msgspec.Raw])
# Twice as fast, but the names of other fields need not be UTF-8 for it. In ASCII they are.
_ERROR_ALONE = msgspec.json.Decoder(_Reply)
_JSON_TYPES = {"application/json", "application/x-ndjson"}


class OpeningCheck:
    """Parses the opening of every reply, not merely waits for it."""

    herdgate_api = 1

    @hookimpl
    def inspect_opening(self, exchange: Exchange, head: Head, opening: bytes) -> Failure | None:
        """A Failure for a malformed opening and for one that is an error."""
        if head.content_type == "text/event-stream":
            return _inspect_event(opening)
        if exchange.endpoint is not None and exchange.endpoint.form and not opening.lstrip().startswith(b"{"):
            return _markup(opening)  # a transcription as plain text, which Ollama calls NDJSON
        if head.content_type in _JSON_TYPES:
            return _inspect_json(opening)
        if exchange.family is Family.OLLAMA or head.content_type == "text/html":
            return Failure(
                Kind.MALFORMED, Phase.OPENING, f"a success with content type {head.content_type or 'missing'}"
            )
        return None


def _markup(text: bytes) -> Failure | None:
    if text.lstrip().startswith(b"<"):
        return Failure(Kind.MALFORMED, Phase.OPENING, "a page in place of a text")
    return None


def _inspect_event(event: bytes) -> Failure | None:
    lines = event.splitlines()
    parts = []
    for line in lines:
        if line.startswith(b"data:"):
            parts.append(line[5:].removeprefix(b" "))
        elif line and not line.startswith(_FIELDS):
            return _inspect_json(line) or Failure(Kind.MALFORMED, Phase.OPENING, "the first event is not SSE")
    data = b"\n".join(parts)
    if b"event: error" in lines or b"event:error" in lines:
        return _error(data)
    return None if data == b"[DONE]" else _inspect_json(data) or _inspect_sign(data)


def _inspect_sign(data: bytes) -> Failure | None:
    """Ollama has no words for an error inside of a stream of OpenAI's: it sends a chunk without text that names no
    model, and then ends the stream.
    """
    if b'"model":""' in data and b'"fp_ollama"' in data and b'"finish_reason":null' in data:
        return Failure(
            Kind.ERROR_EVENT, Phase.OPENING, "the sign of an error as the first event; it does not say which"
        )
    return None


def _inspect_json(text: bytes) -> Failure | None:
    try:
        error = _ERROR_ALONE.decode(text).error if text.isascii() else _TOP_LEVEL.decode(text).get("error", _NO_ERROR)
        failed = error is not _NO_ERROR and msgspec.json.decode(error)
    except msgspec.ValidationError:
        return Failure(Kind.MALFORMED, Phase.OPENING, "the first event is not a JSON object")
    except (ValueError, RecursionError):
        return Failure(Kind.MALFORMED, Phase.OPENING, "the first event is not JSON")
    return _error(text) if failed else None


def _error(text: bytes) -> Failure:
    message = message_of(text)
    return Failure(Kind.ERROR_EVENT, Phase.OPENING, f"an error as the first event: {message}", message=message)
