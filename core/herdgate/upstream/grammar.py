"""The few patterns that every line of an HTTP/1 response is made of (RFC 9112; RFC 9110, section 5).

Possessive quantifiers stand behind single characters only. Behind a group, Python 3.11.0 to 3.11.4 lets them match what
they must not (gh-100061, gh-106052).
"""

NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
"""The name of a field."""
TEXT = r"[\t\x20-\x7e\x80-\xff]*+"
"""The rest of a line: no control character but the tab."""


def beginnings(*parts: str) -> str:
    """A pattern for whatever may yet become what these patterns match one after the other, and for all of that."""
    pattern = ""
    for part in reversed(parts):
        pattern = f"(?:{part}{pattern})?"
    return pattern
