"""The grammar of model names, their canonical form, and patterns over them.

``[scheme://][host/][namespace/]model[:tag]``, read from the right as Ollama reads it, so that a registry's port is
never taken for a tag. A name is read here exactly once; everything else compares keys.

Source suffixes (Ollama ≥ 0.17.6): ``:local`` names the stored model. ``:cloud`` and ``:TAG-cloud`` send the prompt to
ollama.com, so such a name is never the same model as its local namesake: the suffix is part of its key.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Literal, Self

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

Source = Literal["", "local", "cloud"]

# What Go's strings.TrimSpace removes. Python's strip() would also remove U+001C to U+001F, which a backend refuses.
_WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_SCHEME = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://")
_LONGEST = 1000  # more than any valid name with a scheme: nothing longer is looked at


class InvalidModelName(ValueError):  # noqa: N818
    """A text that names no model, or a pattern that could match none. The message is fit for the caller."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one part of a name may look like; ``extra`` are the characters allowed besides letters, digits and ``_``."""

    label: str
    extra: str
    longest: int
    _plain: re.Pattern[str] = field(init=False, repr=False)
    _glob: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, star in (("_plain", ""), ("_glob", "*")):
            first = f"A-Za-z0-9_{star}"
            compiled = re.compile(f"[{first}][{first}{re.escape(self.extra)}]{{0,{self.longest - 1}}}")
            object.__setattr__(self, name, compiled)

    def check(self, text: str, *, wildcards: bool = False) -> str:
        if (self._glob if wildcards else self._plain).fullmatch(text):
            return text
        if not text:
            raise InvalidModelName(f"the {self.label} is empty")
        if len(text) > self.longest:
            raise InvalidModelName(f"the {self.label} is longer than {self.longest} characters")
        allowed = " ".join("_" + self.extra + ("*" if wildcards else ""))
        raise InvalidModelName(
            f"the {self.label} may hold only A-Z a-z 0-9 {allowed} and begins with a letter, a digit or _"
        )


_HOST = _Part("host", "-.:", 350)
_NAMESPACE = _Part("namespace", "-", 80)
_MODEL = _Part("model", "-.", 80)
_TAG = _Part("tag", "-.", 80)


@dataclass(frozen=True, slots=True)
class ModelName:
    """A valid model name with its defaults filled in, spelled as it was written.

    Two names are equal when they mean the same model (``key``) from the same ``source``, whatever their spelling.
    ``tag`` does not contain the source suffix: ``gpt-oss:20b-cloud`` has tag ``20b`` and source ``cloud``.
    """

    host: str = field(compare=False)
    namespace: str = field(compare=False)
    model: str = field(compare=False)
    tag: str = field(compare=False)
    source: Source = ""
    key: str = field(init=False, repr=False)
    """Canonical form for dictionaries: all parts, in lower case; a cloud suffix is in it, ``:local`` is not."""
    display: str = field(init=False, repr=False, compare=False)
    """The shortest form that means this model, tag always present, as ``/api/tags`` shows it."""

    def __post_init__(self) -> None:
        for part, text in ((_HOST, self.host), (_NAMESPACE, self.namespace), (_MODEL, self.model), (_TAG, self.tag)):
            part.check(text)
        if _split_source(f":{self.tag}")[1]:
            raise InvalidModelName("use either :local or :cloud, and only once")
        name = f"{self.model}:{_suffixed(self.tag, self.source)}"
        object.__setattr__(self, "key", f"{self.host}/{self.namespace}/{name}".lower())
        object.__setattr__(self, "display", _shortest(self.host, self.namespace, name))

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """Read a name as a client or a backend wrote it; white space around it is ignored, so is a scheme.

        Raises InvalidModelName. Digests (``m@sha256:…``) are no names, as in Ollama.
        """
        # Not cached: by the time that its first question takes, anybody could tell which names were asked for before.
        return _read_plain(text) or _read_any(text)


@dataclass(frozen=True, slots=True)
class ModelPattern:
    """Which models somebody may use: a plain name, a glob, or ``*`` for every model.

    A plain name without a tag means ``:latest``. A glob without a tag matches every tag. ``*`` matches any text inside
    one part of a name, never across ``/`` or the colon before the tag, and is the only wildcard: ``?`` and ``[`` are no
    characters of a name, so a pattern with them is refused rather than silently matching nothing. Case is ignored and
    defaults are filled in, so ``registry.ollama.ai/library/llama*`` is ``llama*``.

    A cloud model is matched with its suffix as part of the tag: ``m`` and ``m:8b`` do not match ``m:cloud`` and
    ``m:8b-cloud``, but ``m:*``, ``m*`` and ``*`` do. That a pattern matches is not enough:
    the backend and the key must allow the cloud as well.
    """

    text: str
    """The canonical form: ``*``, or all four parts in lower case."""
    _expression: re.Pattern[str] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a pattern. Raises InvalidModelName with a message for whoever wrote it."""
        text = text.strip(_WHITE_SPACE)
        try:
            canonical = "*" if text == "*" else _canonical_pattern(text)
        except InvalidModelName as error:
            shown = text if len(text) <= 100 else text[:100] + "…"
            raise InvalidModelName(f"invalid model pattern {shown!r}: {error}") from None
        return cls(canonical, re.compile(_expression(canonical)))

    def matches(self, name: ModelName) -> bool:
        """Whether this pattern covers ``name``, whatever its spelling."""
        return self._expression.fullmatch(name.key) is not None


@dataclass(slots=True)
class _Draft:
    """A name in the making. It becomes a ``ModelName``, which has the same slots, by taking over its class: to set
    seven fields of what is frozen already takes five times as long.
    """

    host: str
    namespace: str
    model: str
    tag: str
    source: Source
    key: str
    display: str


_PLAIN = re.compile(
    r"(?:([A-Za-z0-9_][A-Za-z0-9_-]{0,79})/)?"
    r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,79})"
    r"(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,79})(?<!(?i:cloud))(?<!(?i::local)))?"
)


def _read_plain(text: str) -> ModelName | None:
    """The quick way to read what nearly every name is: one without a host and a source suffix. None for all others."""
    found = _PLAIN.fullmatch(text)
    if found is None:
        return None
    namespace, model, tag = found.groups()
    if tag is None:
        tag = DEFAULT_TAG
    name = display = f"{model}:{tag}"
    if namespace is None:
        namespace = DEFAULT_NAMESPACE
    elif namespace.lower() != DEFAULT_NAMESPACE:
        display = f"{namespace}/{name}"
    key = f"{DEFAULT_HOST}/{namespace}/{name}".lower()
    draft: Any = _Draft(DEFAULT_HOST, namespace, model, tag, "", key, display)
    draft.__class__ = ModelName
    made: ModelName = draft
    return made


def _read_any(text: str) -> ModelName:
    text = text.strip(_WHITE_SPACE)
    if len(text) > _LONGEST:
        raise InvalidModelName("invalid model name: it is too long")
    try:
        return _read(text)
    except InvalidModelName as error:
        raise InvalidModelName(f"invalid model name: {error}") from None


def _read(text: str) -> ModelName:
    bare, source = _split_source(text)
    host, namespace, model, tag = _split(bare)
    return ModelName(host, namespace, model, DEFAULT_TAG if tag is None else tag, source)


def _split_source(text: str) -> tuple[str, Source]:
    """Cut off the source suffix, which follows the last colon; case is ignored."""
    head, colon, last = text.rpartition(":")
    match last.lower():
        case "local" if colon:
            return head, "local"
        case "cloud" if colon:
            return head, "cloud"
        case folded if colon and "/" not in folded and folded.endswith("-cloud"):
            return head + colon + last[: -len("-cloud")], "cloud"
        case _:
            return text, ""


def _suffixed(tag: str, source: Source) -> str:
    """The tag as a backend lists it; a cloud model without a tag of its own is listed as ``m:cloud``."""
    if source != "cloud":
        return tag
    return "cloud" if tag.lower() == DEFAULT_TAG else f"{tag}-cloud"


def _shortest(host: str, namespace: str, name: str) -> str:
    if host.lower() != DEFAULT_HOST:
        return f"{host}/{namespace}/{name}"
    if namespace.lower() != DEFAULT_NAMESPACE:
        return f"{namespace}/{name}"
    return name


def _split(text: str) -> tuple[str, str, str, str | None]:
    """Host, namespace, model, tag; from the right, so that the colon of a registry's port is not taken for a tag's."""
    tag = None
    if text.rfind(":") > text.rfind("/"):
        text, _, tag = text.rpartition(":")
    *before, model = text.rsplit("/", 2)
    namespace = before.pop() if before else DEFAULT_NAMESPACE
    host = _SCHEME.sub("", before.pop(), count=1) if before else DEFAULT_HOST
    return host, namespace, model, tag


def _canonical_pattern(text: str) -> str:
    host, namespace, model, tag = _split(text)
    if text.count("/") == 1 and "." in namespace:
        raise InvalidModelName(f"a host needs a namespace behind it: did you mean {f'{namespace}/*/{model}'!r}?")
    if "*" not in text:
        return _read(text).key
    if "**" in text:
        raise InvalidModelName("write '*' once; it matches any text that has no '/' in it")
    _HOST.check(host, wildcards=True)
    _NAMESPACE.check(namespace, wildcards=True)
    _MODEL.check(model, wildcards=True)
    return f"{host}/{namespace}/{model}:{_canonical_tag(tag)}".lower()


def _canonical_tag(tag: str | None) -> str:
    if tag is None:
        return "*"
    if "*" in tag:
        return _TAG.check(tag, wildcards=True)
    name = _read(f"m:{tag}")
    if name.source == "local":
        raise InvalidModelName("':local' is no tag: leave it out, or name the tag")
    return name.key.rpartition(":")[2]


def _expression(canonical: str) -> str:
    """A regular expression that needs no backtracking over more than one wildcard, however many stars there are."""
    if canonical == "*":
        return ".*"
    path, _, tag = canonical.rpartition(":")
    # No wildcard can cross the colon before the tag: behind its last slash a key has exactly one, and so has this.
    return "/".join(map(_glob, path.split("/"))) + ":" + _glob(tag)


def _glob(part: str) -> str:
    first, *others = map(re.escape, part.split("*"))
    if not others:
        return first
    # Each text between two stars may be taken at its first occurrence: if that fails, no later one can succeed.
    # The atomic group keeps re from trying them all, which would take exponential time on hostile patterns.
    middle = "".join(f"(?>[^/]*?{text})" for text in others[:-1])
    return f"{first}{middle}[^/]*{others[-1]}"
