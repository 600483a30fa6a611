"""One loaded model and its llama.cpp context: forward passes and the KV cache's memory. Owned by the loop thread."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from engine.messages import LoadModel
from engine.runner.batch import Batch
from engine.runner.llamacpp import AbortFlag, C, library_log, metadata_overrides
from engine.runner.repacking import layout_names
from engine.runner.vocabulary import Vocabulary

CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
MICRO_BATCH = 512  # tokens that llama.cpp computes at once
FLASH_ATTENTION_OFF = 0
STEADY_CONTEXT = 2048  # tokens; up to this context the slower kernel with reproducible sums is affordable
PROGRESS_STEP = 0.01
MAPPED, PINNED = "_Mapped", "_Host"  # suffixes of llama.cpp's buffer type names
NO_SLOT, ABORTED = 1, 2  # what llama_decode returns


class ModelError(RuntimeError):
    """llama.cpp refused the model or its context. The message is for users and names no file."""


class DecodeError(RuntimeError):
    """A forward pass failed, though the cache was not full and nobody aborted it."""


class Threads:
    """The number of threads of one llama.cpp context: `default` unless all requests in a pass ask for another."""

    def __init__(self, context: C.llama_context_p, default: int) -> None:
        self._context = context
        self._default = self._current = default

    @property
    def current(self) -> int:
        """How many threads the next pass uses."""
        return self._current

    def use(self, requested: Iterable[int]) -> bool:
        """Use the requests' `num_thread` for the next pass if all agree, else the default; 0 asks for none.

        One request's small number must not slow the others. Returns whether the default is used.
        """
        distinct = set(requested)
        agreed = distinct.pop() if len(distinct) == 1 else 0
        if (count := agreed or self._default) != self._current:
            C.llama_set_n_threads(self._context, count, count)
            self._current = count
        return count == self._default


class Context:
    """A loaded model with its context, for `n_seq_max` sequences. `progress` gets 0 to 1 while it loads.

    The constructor raises ModelError; `close` frees everything. `mapped` and `host` are the bytes of its weights that
    are the file's pages and that are in other memory of this machine; `weights` is their size in the file, `gpu_share`
    the part of the layers on a GPU (0 to 1), `n_batch` the most tokens of a pass, `n_outputs` the most rows of logits.
    """

    def __init__(self, spec: LoadModel, n_seq_max: int, progress: Callable[[float], None]) -> None:
        self._log = library_log()
        self._log.clear()
        self._private = (spec.path, *spec.adapters)
        self._spec = spec
        self.abort = AbortFlag()
        self._model = self._load(spec, progress)
        self.mapped, self.host = _memory_of(self._log.buffers)
        self.vocabulary = Vocabulary(self._model)
        self._ctx = self._make_context(n_seq_max)
        self.threads = Threads(self._ctx, spec.n_threads)
        self.n_batch: int = C.llama_n_batch(self._ctx)
        self.n_outputs = n_seq_max
        self._memory = C.llama_get_memory(self._ctx)
        self._adapters = self._load_adapters(spec.adapters)
        self._add_adapters(self._ctx)
        # A recurrent state has no positions to cut at: it is extended or dropped as a whole.
        self.can_cut: bool = not (C.llama_model_is_recurrent(self._model) or C.llama_model_is_hybrid(self._model))
        self.can_shift: bool = self.can_cut and C.llama_memory_can_shift(self._memory)
        self.embedding_width: int = C.llama_model_n_embd_out(self._model)
        self.classifier_width: int = C.llama_model_n_cls_out(self._model)
        self.weights: int = C.llama_model_size(self._model)
        self.gpu_share = self._gpu_share(spec.n_gpu_layers)

    def decode(self, batch: Batch) -> int:
        """One forward pass. Returns 0, NO_SLOT (nothing changed) or ABORTED (roll back). Raises DecodeError."""
        code: int = C.llama_decode(self._ctx, batch.as_struct())
        if code in (0, NO_SLOT, ABORTED):
            return code
        raise DecodeError(f"llama_decode returned {code}")

    def logits(self, rows: int) -> npt.NDArray[np.float32]:
        """Logits of the last pass's outputs in the batch's order: float32, rows × n_vocab, llama.cpp's own memory."""
        pointer = C.llama_get_logits(self._ctx)
        return np.ctypeslib.as_array(pointer, (rows, self.vocabulary.size))

    def remove(self, seq: int, start: int, end: int = -1) -> bool:
        """Remove positions [start, end) of a sequence, -1: to the end. False if this kind of memory cannot."""
        done: bool = C.llama_memory_seq_rm(self._memory, seq, start, end)
        return done

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Let `target` share the cells of the first `length` positions of `source`."""
        C.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def shift(self, seq: int, start: int, end: int, by: int) -> None:
        """Move positions [start, end) of a sequence by `by`."""
        C.llama_memory_seq_add(self._memory, seq, start, end, by)

    def params(self) -> C.llama_context_params:
        """Parameters that every context on this model shares: threads, KV cache types, flash attention, abort flag."""
        spec = self._spec
        params = C.llama_context_default_params()
        params.n_threads = params.n_threads_batch = spec.n_threads
        params.kv_unified = True
        params.type_k = CACHE_TYPES[_cache_type(spec)]
        params.type_v = CACHE_TYPES[_value_type(spec)]
        params.flash_attn_type = spec.flash_attention
        params.abort_callback = self.abort.callback
        params.abort_callback_data = self.abort.data
        params.no_perf = True
        return params

    def create_sibling(self, params: C.llama_context_params) -> C.llama_context_p:
        """A second context on the same weights and adapters; the caller frees it before this one. Raises ModelError."""
        context = self._init_context(params)
        self._add_adapters(context)
        return context

    def sibling_threads(self, context: C.llama_context_p) -> Threads:
        """The thread count of a context from `create_sibling`."""
        return Threads(context, self._spec.n_threads)

    def close(self) -> None:
        """Free context and model; neither may be used afterwards."""
        C.llama_free(self._ctx)
        C.llama_model_free(self._model)

    def _load(self, spec: LoadModel, progress: Callable[[float], None]) -> C.llama_model_p:
        """Load the model. Raises ModelError."""
        params = C.llama_model_default_params()
        params.n_gpu_layers = spec.n_gpu_layers
        params.main_gpu = spec.main_gpu
        if spec.use_mmap is not None:
            params.load_mode = C.LLAMA_LOAD_MODE_MMAP if spec.use_mmap else C.LLAMA_LOAD_MODE_NONE
        reported = 0.0

        def report(value: float, _user_data: object) -> bool:
            nonlocal reported
            if value >= reported + PROGRESS_STEP:
                reported = value
                progress(value)
            return True

        callback = C.llama_progress_callback(report)
        params.progress_callback = callback
        overrides = metadata_overrides(spec.overrides)
        params.kv_overrides = overrides
        model = C.llama_model_load_from_file(spec.path.encode(), params)
        if not model:
            raise ModelError(self._log.reason("failed to load model", self._private))
        if reported < 1:  # where weights are copied, the library's own last report may be lower
            progress(1.0)
        return model

    def _make_context(self, n_seq_max: int) -> C.llama_context_p:
        params = self.params()
        params.n_ctx = self._spec.n_cells
        params.n_batch = self._spec.n_batch
        params.n_ubatch = min(self._spec.n_batch, MICRO_BATCH)
        params.n_seq_max = n_seq_max
        params.n_outputs_max = n_seq_max
        try:
            return self._init_context(params)
        except ModelError:
            C.llama_model_free(self._model)
            raise

    def _init_context(self, params: C.llama_context_params) -> C.llama_context_p:
        self._log.clear()
        context = C.llama_init_from_model(self._model, params)
        if not context:
            raise ModelError(self._log.reason("failed to create a context", self._private))
        return context

    def _load_adapters(self, paths: Sequence[str]) -> list[C.llama_adapter_lora_p]:
        loaded = [C.llama_adapter_lora_init(self._model, path.encode()) for path in paths]
        if not all(loaded):
            raise ModelError(self._log.reason("failed to load an adapter", self._private))
        return loaded

    def _add_adapters(self, context: C.llama_context_p) -> None:
        if self._adapters:
            count = len(self._adapters)
            handles = (C.llama_adapter_lora_p_ctypes * count)(*self._adapters)
            C.llama_set_adapters_lora(context, handles, count, (ctypes.c_float * count)(*[1.0] * count))

    def _gpu_share(self, n_gpu_layers: int) -> float:
        if not C.llama_supports_gpu_offload():
            return 0.0
        layers = C.llama_model_n_layer(self._model) + 1  # the output layer counts as one
        return 1.0 if n_gpu_layers < 0 else min(n_gpu_layers, layers) / layers


def _memory_of(buffers: Mapping[str, int]) -> tuple[int, int]:
    """Bytes of the weights in mapped pages of the file, and in other memory of this machine, from llama.cpp's log."""
    mapped = sum(size for name, size in buffers.items() if name.endswith(MAPPED))
    own = ("CPU", *layout_names())
    host = sum(size for name, size in buffers.items() if name in own or name.endswith(PINNED))
    return mapped, host


def _cache_type(spec: LoadModel) -> str:
    return spec.cache_type if spec.cache_type in CACHE_TYPES else "f16"


def _value_type(spec: LoadModel) -> str:
    """The type of the cache's values: bfloat16 beside float16 keys where that is cheap, else the type asked for.

    llama.cpp's CPU attention has three kernels, two of which add in float16, and picks one by the number of tokens in
    the pass and the cache's fill. Near ties then turn out differently when other sequences run beside an answer or a
    prompt is split or reused. With two different 16-bit types only the float32 kernel is left, and answers stay the
    same. It is slow where much is attended to, hence the limit on the context.
    """
    on_cpu = spec.n_gpu_layers == 0 or not C.llama_supports_gpu_offload()
    fast = platform.machine() in ("x86_64", "AMD64")
    cheap = on_cpu and fast and spec.n_ctx <= STEADY_CONTEXT and spec.flash_attention != FLASH_ATTENTION_OFF
    return "bf16" if cheap and _cache_type(spec) == "f16" else _cache_type(spec)
