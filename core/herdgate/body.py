"""Strict reading of a request body's top level: what is authorised here is what the backend will run.

Ollama's decoder folds the case of keys and lets the last one win: `{"model":"a","MODEL":"b"}` runs b, and U+017F
stands for s. Python sees two keys or one, and decides on a. So a body that two readers could understand differently is
refused, and what remains may be forwarded byte for byte.

Only the top level is compared, because everything decided on (model, stream, keep_alive, …) stands there. Ollama folds
the keys of nested objects as well; nobody here may base a decision on those without folding them.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

import msgspec

_MOST_FIELDS = 256
_LONGEST_NAME = 256
_CHUNK = 1 << 16
_LARGE = 1 << 20
_MOST_VALUES = 1_000_000
"""Of a field that is to be decoded. So many take a tenth of a second and a hundred megabytes."""

# Every field that any version of Ollama reads at the top level of a request, native, OpenAI's and Anthropic's.
_FIELDS = """
    _debug_render_only adapters background context conversation destination dimensions draft_files draft_quantize
    encoding_format files format frequency_penalty from height images include info input insecure instructions
    keep_alive license logprobs max_output_tokens max_results max_tokens messages metadata model modelfile name
    options output_config parameters parser password path presence_penalty prompt quantization quantize query raw
    reasoning reasoning_effort remote_host renderer requires response_format seed shift source steps stop
    stop_sequences stream stream_options suffix system temperature template text think thinking tool_choice tools
    top_k top_logprobs top_p truncate truncation url username verbose width
"""
_KNOWN = frozenset(_FIELDS.split())


class BadBody(ValueError):  # noqa: N818
    """A body that cannot be read, or that a backend might read differently: a 400. The message is fit for the caller.

    It names the offending key but never repeats a value.
    """


class Body(msgspec.Struct, frozen=True):
    """A request body whose top level every reader understands alike: one JSON object, or a form."""

    raw: bytes
    """The bytes as the client sent them, fit for forwarding."""
    fields: Mapping[str, msgspec.Raw]
    """Every top-level key with the JSON text of its value; the keys are distinct even when their case is folded. The
    fields of a form are strings.
    """
    content_type: str = "application/json"
    """What the bytes are forwarded as."""
    reply_type: str | None = None
    """The content type of the reply, where the backend is known to name a wrong one."""

    def __repr__(self) -> str:
        return f"Body({len(self.raw)} bytes, {self.content_type})"  # never what users write

    @classmethod
    def read(cls, raw: bytes) -> Body:
        """Read a body that is JSON, as strictly as those of callers. Raises ValueError."""
        return read_body(raw)

    def replaced(self, changes: Mapping[str, bytes | None]) -> bytes:
        """The body with other values, given as JSON, for these fields, and without those that are given as None.

        The other fields keep their very text, in their order: whoever changes one cannot change what another says.
        """
        texts: dict[str, bytes | None] = {**{name: bytes(text) for name, text in self.fields.items()}, **changes}
        return b"{" + b",".join(_member(name, text) for name, text in texts.items() if text is not None) + b"}"

    def value(self, name: str) -> object:
        """The decoded value of a field; None if it is absent or null, which Ollama does not tell apart.

        Raises BadBody for a number out of range, nesting that cannot be read, and a million values or so.
        """
        text = self.fields.get(name)
        if text is None:
            return None
        if len(text) > _LARGE and _values(bytes(text)) > _MOST_VALUES:
            raise BadBody(f'the field "{name}" has too many values')
        try:
            return _decoded(text)
        except RecursionError:
            raise BadBody(f'the field "{name}" is nested too deeply') from None
        except msgspec.DecodeError:
            raise BadBody(f'the field "{name}" has a number that is out of range') from None

    def text(self, name: str) -> str:
        """The value of a field that must be a string; empty if it is absent or null, as for Ollama. Raises BadBody."""
        value = self.value(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise BadBody(f'the field "{name}" must be a string')
        return value

    def boolean(self, name: str, default: bool) -> bool:
        """The value of a field that must be true or false; ``default`` if it is absent or null. Raises BadBody."""
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise BadBody(f'the field "{name}" must be true or false')
        return value


def read_body(raw: bytes) -> Body:
    """Read a request body, all of it checked, its values left undecoded.

    Raises BadBody for anything but one object in plain JSON: trailing bytes, a byte order mark, NaN or Infinity,
    invalid UTF-8 and half surrogate pairs (Go reads U+FFFD instead) anywhere in it, nesting beyond what the interpreter
    can read (about 900 levels on Python 3.11), and keys that collide when their case is folded, with each other or with
    a field that Ollama knows.
    """
    if not raw or raw.isspace():
        raise BadBody("missing request body")  # Ollama's own words
    if not raw.isascii():
        _check_utf8(raw)
    # msgspec skips values without making objects of them, yet checks their syntax (but not their UTF-8), and its hook
    # for keys sees duplicates. In µs for 1 kB, 100 kB, 10 MB of chat: this function 2, 42, 4200; pydantic-core 1, 103,
    # 15800 and json 3, 230, 32000, which make objects of everything and hand out no undecoded values.
    try:
        fields = _own.reader.read(raw)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, BadBody):
            raise error.__cause__ from None
        raise BadBody("the request body must be a JSON object") from None
    except msgspec.DecodeError as error:
        raise BadBody(f"the request body is not valid JSON: {_reason(error)}") from None
    except RecursionError:
        raise BadBody("the request body is nested too deeply") from None
    return Body(raw, MappingProxyType(fields))


def _member(name: str, text: bytes) -> bytes:
    return b"%b:%b" % (msgspec.json.encode(str(name)), text)


class _Key(str):
    """A type of our own, because msgspec asks the hook only for types it does not know."""

    __slots__ = ()


_READY = {name: _Key(name) for name in _KNOWN}


class _Reader:
    """Reads one object after the other: making a decoder takes longer than reading a small body.

    Sees the keys of an object as they come; refuses the first that two readers would understand differently.
    """

    __slots__ = ("_decode", "_seen")

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}
        """The keys of this object, by what they are when their case is folded."""
        decoder = msgspec.json.Decoder(dict[_Key, msgspec.Raw], dec_hook=self._add)
        self._decode = cast(Callable[[bytes], Mapping[str, msgspec.Raw]], decoder.decode)

    def read(self, raw: bytes) -> Mapping[str, msgspec.Raw]:
        self._seen.clear()
        return self._decode(raw)

    def _add(self, _: type, name: str) -> _Key:
        key, seen = _READY.get(name), self._seen
        if key is None or key in seen or len(seen) == _MOST_FIELDS:
            return self._examined(name)
        seen[key] = key
        return key

    def _examined(self, name: str) -> _Key:
        """A key that is none of those which Ollama knows, each spelled so and given once."""
        if len(self._seen) == _MOST_FIELDS:
            raise BadBody(f"the request body has more than {_MOST_FIELDS} fields")
        if len(name) > _LONGEST_NAME:
            raise BadBody(f"the request body has a key longer than {_LONGEST_NAME} characters")
        folded = name.lower() if name.isascii() else _fold(name)
        if folded in self._seen:
            raise BadBody(_same(name, self._seen[folded]))
        if folded in _KNOWN and folded != name:
            raise BadBody(f"the key {name!a} would be read as {folded!r}: write it so")
        self._seen[folded] = name
        return _Key(name)


class _Own(threading.local):
    """What each thread has for itself, as a reader remembers the object that it is reading."""

    def __init__(self) -> None:
        self.reader = _Reader()


_own = _Own()
_decoded = msgspec.json.Decoder().decode


def _values(text: bytes) -> int:
    """At most how many values this has: each but the first comes behind a comma or stands in another one."""
    return 1 + sum(map(text.count, (b",", b"[", b"{")))


def _same(name: str, other: str) -> str:
    if name == other:
        return f"the key {name!a} is given twice"
    return f"the keys {other!a} and {name!a} differ only in case"


def _fold(name: str) -> str:
    """Fold as Go's encoding/json does: character by character, so ß is not ss, but U+017F is s and U+212A is k."""
    folded = ((character, character.casefold()) for character in name)
    return "".join(fold if len(fold) == 1 else character.lower() for character, fold in folded)


def _check_utf8(raw: bytes) -> None:
    if raw.startswith(codecs.BOM_UTF8):
        raise BadBody("the request body begins with a byte order mark: send plain UTF-8")
    # In pieces, so that a body of 100 MiB does not take four times its size for a moment.
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(raw)
    try:
        for start in range(0, len(raw), _CHUNK):
            decoder.decode(view[start : start + _CHUNK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise BadBody("the request body is not valid UTF-8") from None


def _reason(error: msgspec.DecodeError) -> str:
    text = str(error)
    if "truncated" in text:
        return "it ends in the middle of a value, or has half of a surrogate pair"
    return text.removeprefix("JSON is malformed: ")
