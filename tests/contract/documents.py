"""The documentation as tests read it: its files, the blocks of code in them, the links. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
_INLINE_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of code: its language, its title if it has one, its text, and the line on which it begins."""

    document: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Document:
    """One Markdown file of the repository."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    def blocks(self, language: str) -> list[Block]:
        return [block for block in self._blocks() if block.language == language]

    def _blocks(self) -> Iterator[Block]:
        for found in _FENCE.finditer(self.text):
            info = found["info"].strip()
            title = _TITLE.search(info)
            line = self.text.count("\n", 0, found.start()) + 1
            yield Block(self.name, line, info.split(" ")[0], title[1] if title else "", found["text"])

    @property
    def prose(self) -> str:
        """The text without its blocks of code."""
        return _FENCE.sub("", self.text)

    def code(self) -> list[str]:
        """Every line of code, of blocks for a shell and of inline code: what a reader may type."""
        lines = [
            line
            for language in ("console", "sh", "text")
            for b in self.blocks(language)
            for line in b.text.splitlines()
        ]
        return [*lines, *_INLINE_CODE.findall(self.prose)]

    def links(self) -> list[str]:
        """The targets of links that lead to places in this repository."""
        targets = (found["target"] for found in _LINK.finditer(self.prose))
        return [target for target in targets if "://" not in target]

    def anchors(self) -> set[str]:
        """What `#…` may name: the headings, as GitHub makes anchors of them."""
        titles = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in _HEADING.findall(self.prose))
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def documents() -> list[Document]:
    """Every Markdown file that readers find."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")]
    return [Document(path, path.read_text("utf-8")) for path in sorted(paths)]


def document(name: str) -> Document:
    """One of them by its path in the repository."""
    return next(each for each in documents() if each.name == name)
