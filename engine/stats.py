"""What a model's process is doing, as it tells the server each second while it computes."""

from __future__ import annotations

import msgspec


class Stats(msgspec.Struct, array_like=True, frozen=True):
    """Counts since the load, and the state now.

    `steps` are forward passes (and parts of pictures) so far; `prompt_tokens` were computed of prompts and of texts to
    embed or to rank, `generated_tokens` were sampled. In `decode_passes` answers went on, in the last one `batch` of
    them together, in all `decode_rows`. Of the `drafted_tokens` that passes have verified, `accepted_tokens` were
    right. Of the requests, some are `running` and some are `waiting` for a place. `cells_used` of the KV cache's
    `cells` hold tokens, `cached_tokens` are of finished answers and can be reused. `busy`: there is something to
    compute.
    """

    busy: bool = False
    steps: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    running: int = 0
    waiting: int = 0
    batch: int = 0
    cells_used: int = 0
    cells: int = 0
    cached_tokens: int = 0
    decode_passes: int = 0
    decode_rows: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


NO_STATS = Stats()
