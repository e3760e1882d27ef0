"""`/api/show` without the file-system paths of a backend, for everybody but admins."""

from __future__ import annotations

import re

import msgspec

from herdgate.inside import HIDDEN, is_path

LIMIT = 64 * 1024 * 1024
"""The longest reply that can be redacted, in bytes; with `verbose` it holds a model's whole vocabulary."""

# The instructions of a Modelfile that name files; all but the file's name goes, which is the digest of the blob. Each
# line is looked at once, and no blank is looked at twice: whoever made the model may have written anything.
_FILE = re.compile(
    r"""^([^\S\n]*+#?[^\S\n]*+(?:FROM|ADAPTER|DRAFT)[^\S\n]++["']?)(?:[A-Za-z]:)?[\\/](?:[^\n]*[\\/])?""",
    re.IGNORECASE | re.MULTILINE,
)
_REPLY = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ShowRedaction:
    """A stream filter that holds the whole reply, because the paths may stand anywhere in it."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Keep it. Raises ValueError past the limit."""
        self._held += data
        if len(self._held) > LIMIT:
            raise ValueError(f"a reply of /api/show with more than {LIMIT} bytes")
        return b""

    def finish(self) -> bytes:
        """The reply without paths. Raises ValueError (msgspec's) for what is no JSON object."""
        fields = _REPLY.decode(self._held)
        for name, value in fields.items():
            # Any spelling: clients written in Go would read "Modelfile" as well.
            match name.lower():
                case "modelfile":
                    fields[name] = _encoded(_FILE.sub(rf"\1{HIDDEN}/", msgspec.json.decode(value, type=str)))
                case "details":
                    fields[name] = _encoded(without_paths(msgspec.json.decode(value)))
        return msgspec.json.encode(fields)


def without_paths(details: object) -> object:
    """`details` without a parent model that is a file: old servers gave the path of what a model was made from."""
    if isinstance(details, dict) and is_path(str(details.get("parent_model", ""))):
        return {**details, "parent_model": ""}
    return details


def _encoded(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
