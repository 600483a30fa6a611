"""What llama.cpp itself would reserve for files without weights: `python -m tests.memory.reserved GGUF...`.

The model is loaded with `no_alloc`, which takes some milliseconds whatever its size. Prints a JSON list of `Reserved`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.loading.sizes import Pass
from engine.runner.context import CACHE_TYPES
from engine.runner.llamacpp import C

MIB = 1 << 20
RUNS = (
    (4096, "f16", "f16", Pass(512, 4096, 8), False),
    (32_768, "f16", "f16", Pass(512, 8192, 8, streams=4), False),
    (32_768, "q8_0", "q4_0", Pass(512, 8192, 8, streams=4), True),
    (8192, "f16", "f16", Pass(512, 8192, 8, flash_attention=False), False),
    (131_072, "f16", "f16", Pass(512, 131_072, 32), False),
)
"""Cells of the KV cache, types of K and V, the pass, and whether layers with a window have as many cells."""
_CACHE = re.compile(r"llama_(?:kv_cache|memory_recurrent): size = +([\d.]+) MiB")
_COMPUTE = re.compile(r"compute buffer size = +([\d.]+) MiB")


@dataclass(frozen=True)
class Reserved:
    """Bytes for one model in one of the RUNS."""

    name: str
    run: int
    cache: int
    compute: int


def reserved(paths: list[Path]) -> Iterator[Reserved]:
    """Ask llama.cpp. Raises RuntimeError for a file that it refuses."""
    lines: list[str] = []
    hear = C.llama_log_callback(lambda _level, text, _data: lines.append(text.decode("utf-8", "replace")))
    C.llama_backend_init()
    C.llama_log_set(hear, None)
    for path in paths:
        params = C.llama_model_default_params()
        params.no_alloc, params.load_mode, params.use_extra_bufts = True, C.LLAMA_LOAD_MODE_NONE, False
        model = C.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            raise RuntimeError(f"{path.stem}: {lines[-1]}")
        for number, (cells, keys, values, run, swa_full) in enumerate(RUNS):
            lines.clear()
            wish = C.llama_context_default_params()
            wish.n_ctx, wish.n_seq_max, wish.kv_unified = cells, run.streams, False
            wish.n_batch = wish.n_ubatch = run.tokens
            wish.n_outputs_max, wish.swa_full = run.outputs, swa_full
            wish.type_k, wish.type_v = CACHE_TYPES[keys], CACHE_TYPES[values]
            wish.flash_attn_type = -1 if run.flash_attention else 0
            context = C.llama_init_from_model(model, wish)
            if not context and "different K" in lines[-1]:
                wish.type_v = wish.type_k
                context = C.llama_init_from_model(model, wish)
            if not context:
                raise RuntimeError(f"{path.stem}: {lines[-1]}")
            C.llama_free(context)
            sums = (sum(map(float, pattern.findall("".join(lines)))) for pattern in (_CACHE, _COMPUTE))
            yield Reserved(path.stem, number, *(round(size * MIB) for size in sums))
        C.llama_model_free(model)


if __name__ == "__main__":
    print(json.dumps([asdict(figure) for figure in reserved([Path(path) for path in sys.argv[1:]])]))
