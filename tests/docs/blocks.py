"""The code blocks of README.md, CONTRIBUTING.md and the pages in docs/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.serving import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block: the name of its page, the line of its first line there, and its language, empty if none is told."""

    page: str
    line: int
    language: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        """What it is called in lists: its page and its first line, without the comment behind it."""
        return self.page, self.text.partition("\n")[0].partition("  #")[0].strip()

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """All blocks of these languages, in the order of their pages; without a language all there are."""
    return [block for block in _all() if not languages or block.language in languages]


def _all() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            yield Block(page.name, text.count("\n", 0, match.start(3)) + 1, match[2], match[3])
