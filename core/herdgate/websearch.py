"""Take the built-in web search out of a request.

Asked for as a tool of `/v1/responses` and `/v1/messages`, it makes a backend send the model's queries to ollama.com, by
the account of the backend's owner. Clients ask for it without being told to, so the request goes on without it.
"""

from __future__ import annotations

from types import MappingProxyType

import msgspec

from herdgate.body import Body

_KIND = "web_search"
"""How the type begins; Anthropic's names end in a date."""


def without_web_search(body: Body) -> Body:
    """The same body, or, if it has this tool, one without; every other value stays as it was written.

    Raises BadBody for tools that cannot be read.
    """
    tools = body.fields.get("tools")
    if tools is None or not _may_search(bytes(tools)):
        return body
    listed = body.value("tools")
    if not isinstance(listed, list) or not any(map(_searches, listed)):
        return body
    left = msgspec.Raw(msgspec.json.encode([tool for tool in listed if not _searches(tool)]))
    fields = {**body.fields, "tools": left}
    return msgspec.structs.replace(body, raw=msgspec.json.encode(fields), fields=MappingProxyType(fields))


def _may_search(tools: bytes) -> bool:
    """Whether it is worth looking closer: the word stands there, or could, written with escapes."""
    return _KIND.encode() in tools or b"\\u" in tools


def _searches(tool: object) -> bool:
    """Whether this tool, or one inside of it, is a web search. Ollama ignores the case of keys, nested ones too."""
    waiting = [tool]
    while waiting:
        match waiting.pop():
            case dict(fields):
                if any(key.lower() == "type" and str(value).startswith(_KIND) for key, value in fields.items()):
                    return True
                waiting += fields.values()
            case list(items):
                waiting += items
    return False
