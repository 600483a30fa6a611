"""Which layers of a model see a sliding window alone, and how many cells the caches of these layers have. Pure.

llama.cpp keeps two KV caches for such models. In that of the windows it overwrites tokens that no window reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.messages import CONTEXT_PADDING, MICRO_BATCH, padded
from registry.gguf import GGUFArray, GGUFHeader

MOST_LAYERS = 512  # that llama.cpp takes (LLAMA_MAX_LAYERS)
PERIODS = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "olmo2": 4, "cohere2": 4, "exaone4": 4, "llama4": 4}
PERIODS |= {"exaone-moe": 4, "afmoe": 4, "plamo3": 8, "mellum": 4, "muse-glimmer": 4}
PERIODS |= {"cohere2moe": 4, "laguna": 4, "smallthinker": 4}
"""The last layer of so many sees everything, where the file does not say which layers have a window."""
FULL_FIRST = frozenset({"cohere2moe", "laguna", "smallthinker"})
"""Where it is the first one of them."""
LISTED = frozenset({"gemma4", "mimo2", "step35", "granite-swa", "maple", "spark2-5"})
"""Files of these always say it."""
FIXED = {"llama4": 8192, "smallthinker": 4096}
"""Windows that llama.cpp takes whatever the file says, unless that is 0."""
DEFAULT = {"gemma2": 4096, "llama4": 8192, "exaone4": 4096}
"""Windows where the file says nothing."""
EXAONE_LAYERS = 64  # of the one model of this architecture that has windows


@dataclass(frozen=True, slots=True)
class Windows:
    """The layers with a window of `size` tokens, the token itself included."""

    size: int = 0
    layers: frozenset[int] = frozenset()

    @classmethod
    def of(cls, header: GGUFHeader) -> Windows:
        """As llama.cpp reads the header. Raises GGUFError if its sizes are not numbers."""
        name = header.architecture
        if name not in PERIODS and name not in LISTED:
            return cls()
        last = header.size("block_count") - header.size("nextn_predict_layers")
        if name == "exaone4" and last != EXAONE_LAYERS:
            return cls()
        size = header.size("attention.sliding_window", DEFAULT.get(name, 0))
        layers = frozenset(_layers(header, last))
        return cls(FIXED.get(name, size), layers) if size and layers else cls()


def window_cells(cells: int, streams: int, window: int) -> int:
    """Cells of all streams together in the cache of windows, where the other cache has `cells` for them."""
    longest = max(cells // streams // CONTEXT_PADDING, 1) * CONTEXT_PADDING
    return streams * min(longest, padded(window + MICRO_BATCH))


def _layers(header: GGUFHeader, last: int) -> list[int]:
    """Numbers of the layers with a window. The `last` ones predict further tokens."""
    name, pattern = header.architecture, header.field("attention.sliding_window_pattern")
    if isinstance(pattern, GGUFArray):
        listed = pattern.values() if len(pattern) <= MOST_LAYERS else []
        return [number for number, windowed in enumerate(listed[: header.size("block_count")]) if windowed]
    if name in LISTED:
        return []
    period = pattern if type(pattern) is int else PERIODS[name]
    full = 0 if name in FULL_FIRST else period - 1
    return [number for number in range(last) if not period or number % period != full]
