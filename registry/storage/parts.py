"""How a large blob is divided: parts that travel side by side, each of which remembers how far it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

_MOST = (1 << 63) - 1
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class Part(msgspec.Struct, kw_only=True):
    """A range of a blob, in bytes, of which the first `completed` are there. Its JSON is Ollama's."""

    number: _Count = msgspec.field(name="N")
    offset: _Count = msgspec.field(name="Offset")
    size: _Count = msgspec.field(name="Size")
    completed: _Count = msgspec.field(name="Completed", default=0)

    @property
    def start(self) -> int:
        """Where the next byte belongs."""
        return self.offset + self.completed

    @property
    def end(self) -> int:
        """Where the next part begins."""
        return self.offset + self.size

    @property
    def left(self) -> int:
        """Bytes that are missing."""
        return self.size - self.completed


@dataclass(frozen=True, slots=True)
class Division:
    """Into how many parts a blob is divided, and how small and how large they may be in bytes."""

    count: int = 16
    smallest: int = 100_000_000
    largest: int = 1_000_000_000

    def of(self, total: int) -> list[Part]:
        """The parts of a blob, none of an empty one."""
        size = min(max(total // self.count, self.smallest), self.largest)
        return [
            Part(number=number, offset=offset, size=min(size, total - offset))
            for number, offset in enumerate(range(0, total, size))
        ]


DIVISION: Final = Division()


def completed_list(saved: Iterable[Part], total: int) -> list[Part]:
    """Parts that were saved, with new ones for what they leave out; those that cannot be are left out themselves."""
    known = list(saved)
    fresh = max((part.number for part in known), default=-1) + 1
    parts: list[Part] = []
    at = 0
    for part in sorted(known, key=lambda part: part.offset):
        if part.size and at <= part.offset and part.end <= total:
            if at < part.offset:
                parts.append(Part(number=fresh, offset=at, size=part.offset - at))
                fresh += 1
            parts.append(part)
            at = part.end
    if at < total:
        parts.append(Part(number=fresh, offset=at, size=total - at))
    return parts
