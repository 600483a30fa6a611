"""What the configuration says of model processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine.loading.memory import Limits
from engine.loading.sizes import UNQUANTIZED, CacheTypes
from modelfile.watchdog import PATIENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Limits of all processes together: times in seconds, sizes in bytes.

    0 for a number of sequences or models, and None, let the machine decide; `disk_cache` is a folder and the bytes that
    states may take there, None for nowhere. A child that gives no sign of life for
    `watchdog` seconds is killed; an answer of which nothing is read for `unread_timeout` seconds is cancelled if others
    wait for its place. `environ` is the server's environment.
    """

    keep_alive: float = 300.0
    load_timeout: float = 300.0
    num_parallel: int = 0
    max_loaded_models: int = 0
    max_queue: int = 512
    flash_attention: bool | None = None
    kv_cache_type: str = "f16"
    gpu_overhead: int = 0
    gpu_margins: tuple[int, ...] = (1 << 30,)
    gpu_fit: bool = True
    least_context: int = 4096
    sched_spread: bool = False
    swa_full: bool = False
    lookup: bool = True
    prompt_cache: int | None = None
    disk_cache: tuple[Path, int] | None = None
    image_cache: int = 256 << 20
    watchdog: float = PATIENCE
    unread_timeout: float = 60.0
    environ: Mapping[str, str]

    @property
    def replaces_values(self) -> bool:
        """Whether values in the KV cache are f16 whatever was asked for: llama.cpp refuses it, keys it takes."""
        return self.flash_attention is False and CacheTypes.parse(self.kv_cache_type).values not in UNQUANTIZED

    @property
    def limits(self) -> Limits:
        """What plans are made from."""
        types = CacheTypes.parse(self.kv_cache_type)
        if self.replaces_values:
            types = replace(types, values="f16")
        return Limits(
            types=types,
            parallel=self.num_parallel or None,
            prompt_cache=self.prompt_cache,
            row_cache=self.image_cache,
            overhead=self.gpu_overhead,
            margins=self.gpu_margins,
            spread=self.sched_spread,
            fits=self.gpu_fit,
            least_context=self.least_context,
            flash_attention=self.flash_attention,
            swa_full=self.swa_full,
        )
