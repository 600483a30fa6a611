"""What long operations say about how far they are."""

from __future__ import annotations

from typing import Any, Final

from registry.names import Digest

Step = dict[str, Any]
"""One line: `status`, and where they apply `digest`, `total` and `completed` in bytes; zeros are left out."""
_SHOWN_DIGITS: Final = 12


def blob_step(verb: str, digest: Digest, total: int, completed: int) -> Step:
    """How far a blob is."""
    counts = {"total": total, "completed": completed}
    shown = {name: count for name, count in counts.items() if count}
    return {"status": f"{verb} {digest.hex[:_SHOWN_DIGITS]}", "digest": str(digest), **shown}
