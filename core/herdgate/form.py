"""Strict reading of a multipart/form-data body, which goes on byte for byte.

Readers of multipart disagree about almost everything: what may stand before the first boundary, bare line feeds, folded
and encoded headers, escapes in names, a field given twice. So only the one form that all client libraries send is taken
(RFC 7578), and the boundary may occur nowhere else in the body: then every reader finds the same parts.
"""

from __future__ import annotations

import re
from types import MappingProxyType

import msgspec

from herdgate.body import BadBody, Body

_MOST_PARTS = 64
_LONGEST_HEAD = 1024
_LONGEST_VALUE = 64 * 1024

_TYPE = re.compile(r'multipart/form-data; *boundary=("?)([0-9A-Za-z\'+_.-]{1,70})\1', re.IGNORECASE)
_HEADER = re.compile(
    rb"(content-disposition|content-type|content-transfer-encoding|content-length):[ \t]*([\x20-\x7e\x80-\xff]*)",
    re.IGNORECASE,
)
# No backslash: whether it escapes something is one of the things that readers disagree about.
_DISPOSITION = re.compile(
    rb'form-data; *name="([\w.\[\]-]{1,128})"(?:; *(filename)="[^"\\]+")?(?:; *filename\*=[\w.!~%\'-]+)?',
    re.IGNORECASE | re.ASCII,
)
_TEXT = "text/plain; charset=utf-8"
_TEXT_FORMATS = frozenset({"text", "srt", "vtt"})
_PLAIN = frozenset({b"7bit", b"8bit", b"binary"})


def read_form(raw: bytes, content_type: str | None) -> Body:
    """Read a form: its fields become the body's, as JSON strings; the contents of files are not looked at.

    Raises BadBody for what is no such form or could be read in two ways.
    """
    declared = _TYPE.fullmatch((content_type or "").strip())
    if declared is None:
        raise BadBody("the request must be multipart/form-data with a plain boundary")
    boundary = declared[2]
    fields = _Fields()
    found, at = 1, 2 + len(boundary)
    mark = b"--" + boundary.encode()
    if not raw.startswith(mark):
        raise BadBody("the form does not begin with its boundary")
    while raw.startswith(b"\r\n", at):
        begin = raw.find(b"\r\n\r\n", at, at + _LONGEST_HEAD)
        end = raw.find(b"\r\n" + mark, begin + 4)
        if begin < 0 or end < 0:
            raise BadBody("the form has a part without its header or its end")
        fields.add(raw[at + 2 : begin], raw, begin + 4, end)
        found, at = found + 1, end + 2 + len(mark)
    if raw[at : at + 5] not in {b"--", b"--\r\n"}:
        raise BadBody("the form does not end with its boundary")
    if raw.count(mark) != found:
        raise BadBody("the form has its boundary inside of a part")
    body = Body(raw, MappingProxyType(fields.read), f"multipart/form-data; boundary={boundary}")
    # Ollama calls every transcription NDJSON.
    reply_type = _TEXT if body.text("response_format") in _TEXT_FORMATS else "application/json"
    return msgspec.structs.replace(body, reply_type=reply_type)


class _Fields:
    """The fields of a form as they come; refuses the first that two readers would understand differently."""

    def __init__(self) -> None:
        self.read: dict[str, msgspec.Raw] = {}
        self._names: set[str] = set()
        self._parts = 0

    def add(self, head: bytes, raw: bytes, begin: int, end: int) -> None:
        """Take one part, whose content is `raw[begin:end]`."""
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise BadBody(f"the form has more than {_MOST_PARTS} parts")
        name, is_file = _disposition(head)
        folded = name.lower()
        if folded in self._names and not name.endswith("[]"):  # that is how forms write lists
            raise BadBody(f'the form has the field "{name}" twice')
        self._names.add(folded)
        if is_file:
            return
        if end - begin > _LONGEST_VALUE:
            raise BadBody(f'the field "{name}" is longer than {_LONGEST_VALUE} bytes')
        try:
            self.read[name] = msgspec.Raw(msgspec.json.encode(raw[begin:end].decode("utf-8")))
        except UnicodeDecodeError:
            raise BadBody(f'the field "{name}" is not valid UTF-8') from None


def _disposition(head: bytes) -> tuple[str, bool]:
    """The name of a part, and whether it is a file."""
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        header = _HEADER.fullmatch(line)
        if header is None or header[1].lower() in headers:
            raise BadBody("the form has a part with an unusual header")
        headers[header[1].lower()] = header[2].strip()
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN:
        raise BadBody("the form has an encoded part: send it as it is")
    found = _DISPOSITION.fullmatch(headers.get(b"content-disposition", b""))
    if found is None:
        raise BadBody("the form has a part without a plain name")
    return found[1].decode("ascii"), found[2] is not None
