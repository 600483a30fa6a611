"""One loaded model and its llama.cpp context: forward passes and the KV cache's memory. Owned by the loop thread."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.messages import CONTEXT_PADDING, HOST, MICRO_BATCH, DeviceBuffers, LoadModel, padded
from engine.runner.batch import Batch, RowsBatch
from engine.runner.llamacpp import (
    ADAPTER,
    CACHES,
    MODEL,
    PASSES,
    AbortFlag,
    C,
    bound,
    call,
    library_log,
    metadata_overrides,
)
from engine.runner.projector import Projector, ProjectorError
from engine.runner.repacking import layout_names
from engine.runner.saved_state import WORD, Bytes, SavedState, buffer, portable
from engine.runner.shape import Shape
from engine.runner.threads import FreeCores, Threads
from engine.runner.vocabulary import Vocabulary

CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
PARTIAL = C.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY  # of a state: the windows' part
ALIGNMENT = 64  # cells that llama.cpp's attention takes at once on a CPU
PROGRESS_STEP = 0.01
FLASH_ATTENTION_OFF = 0
DIVIDED_CELLS = 512 - CONTEXT_PADDING  # used cells from which llama.cpp, which pads them, divides those of a lone row
STATE_HEAD = 8  # bytes of a saved state before the first stream's count
_get_logits = bound("llama_get_logits", ctypes.c_void_p, ctypes.c_void_p)
EXPERTS_OF_LAYER = r"blk\.{}\.ffn_(up|down|gate|gate_up)_(ch|)exps"  # tensors of a mixture's experts
MAPPED, PINNED = "_Mapped", "_Host"  # suffixes of llama.cpp's buffer type names
NO_SLOT, ABORTED = 1, 2  # what llama_decode returns


class ModelError(RuntimeError):
    """llama.cpp refused the model or its context. The message is for users and names no file."""


class NoMemory(ModelError):
    """There was no memory for the model or its context."""


class DecodeError(RuntimeError):
    """A forward pass failed, though the cache was not full and nobody aborted it."""


class Context:
    """A loaded model with its context, whose KV cache has a `shape`. `progress` gets 0 to 1 while it loads.

    The constructor raises ModelError; `close` frees everything. `mapped` and `host` are the bytes of its weights that
    are the file's pages and that are in other memory of this machine; `weights` is their size in the file. A pass has
    at most `n_batch` tokens, `n_ubatch` of which are computed at once, and `n_outputs` rows of logits. `on_cpu`: no
    layer is on a GPU, so a pass can be aborted. `can_cut`, `can_cut_states`: whether cells can be cut at a position,
    and still so after they were saved and restored. `projector` is None if the model has none.
    """

    def __init__(self, spec: LoadModel, shape: Shape, n_outputs: int, progress: Callable[[float], None]) -> None:
        self._log = library_log()
        self._log.clear()
        self._private = tuple(path for path in (spec.path, *spec.adapters, spec.projector) if path)
        self._spec = spec
        self.abort = AbortFlag()
        self._model = self._load(spec, progress)
        self.vocabulary = Vocabulary(self._model)
        self.n_outputs = n_outputs
        self.shape = shape
        self._ctx: Any = None
        self._memory: Any = None
        self._logits: npt.NDArray[np.float32] = np.empty((0, self.vocabulary.size), np.float32)
        self._logits_at = 0  # their address; llama.cpp moves them where it needs more room
        self._window: int = C.llama_model_n_swa(self._model)
        # A recurrent state has no positions to cut at: it is extended or dropped as a whole.
        self.can_cut: bool = not (C.llama_model_is_recurrent(self._model) or C.llama_model_is_hybrid(self._model))
        self._small_windows = self._window > 0 and self.can_cut and not spec.swa_full
        self.on_cpu = spec.n_gpu_layers == 0 or not C.llama_supports_gpu_offload()
        self.projector: Projector | None = None
        try:
            self._adapters = self._load_adapters(spec.adapters)
            self._model_buffers = dict(self._log.buffers)
            self.mapped, self.host = _memory_of(self._model_buffers)
            self.projector = self._load_projector(spec)
            self._set_context(shape)
        except ModelError:
            self._free_model()
            raise
        self.cores = FreeCores(spec.n_threads)
        self.threads = Threads(self._ctx, self.cores)
        self.n_batch: int = C.llama_n_batch(self._ctx)
        self.n_ubatch: int = C.llama_n_ubatch(self._ctx)
        # Cells of small windows cannot be moved. Where they are large enough by chance they are not, too, so that no
        # text depends on how the cells are divided.
        self.can_shift: bool = self.can_cut and not self._small_windows and C.llama_memory_can_shift(self._memory)
        self.embedding_width: int = C.llama_model_n_embd_out(self._model)
        self.classifier_width: int = C.llama_model_n_cls_out(self._model)
        self.weights: int = C.llama_model_size(self._model)

    @property
    def can_mix_cache_types(self) -> bool:
        """Whether keys in float16 beside values in bfloat16 are fast enough here."""
        x86 = platform.machine() in ("x86_64", "AMD64")
        flash_attention = self._spec.flash_attention != FLASH_ATTENTION_OFF
        return self.on_cpu and x86 and flash_attention and self._cache_types == (CACHE_TYPES["f16"],) * 2

    @property
    def counts_rows(self) -> bool:
        """Whether the sums of a row depend on how many others are in the pass."""
        return self._spec.rows == "counted"

    def is_lone_row_special(self, depth: int) -> bool:
        """Whether a pass of one row behind `depth` tokens adds up in another order than the same row beside others.

        llama.cpp divides the cells of a single row among its threads, and multiplies some matrices in another way for
        one row than for several.
        """
        spec = self._spec
        return spec.rows == "lone" or spec.flash_attention == FLASH_ATTENTION_OFF or depth + 1 >= DIVIDED_CELLS

    def decode(self, batch: Batch | RowsBatch) -> int:
        """One forward pass. Returns 0, NO_SLOT (nothing changed) or ABORTED (roll back). Raises DecodeError."""
        if batch.size > (self.n_batch if batch.causal else self.n_ubatch):  # llama.cpp would abort the process
            raise DecodeError(f"{batch.size} entries are too many for one pass")
        if batch.causal:
            code: int = C.llama_decode(self._ctx, batch.as_struct())
        else:
            C.llama_set_causal_attn(self._ctx, False)
            code = C.llama_decode(self._ctx, batch.as_struct())
            C.llama_set_causal_attn(self._ctx, True)
        if code in (0, NO_SLOT, ABORTED):
            self._has_shifts &= code == ABORTED
            return code
        raise DecodeError(f"llama_decode returned {code}")

    def logits(self, rows: int) -> npt.NDArray[np.float32]:
        """Logits of the last pass's outputs in the batch's order: float32, rows × n_vocab, llama.cpp's own memory."""
        address: int = _get_logits(self._ctx)
        if address != self._logits_at or rows > len(self._logits):
            kind = ctypes.c_float * (self.vocabulary.size * max(rows, self.n_outputs))
            self._logits = np.ctypeslib.as_array(kind.from_address(address)).reshape(-1, self.vocabulary.size)
            self._logits_at = address
        return self._logits[:rows]

    def remove(self, seq: int, start: int, end: int = -1) -> bool:
        """Remove positions [start, end) of a sequence, -1: to the end. False, and nothing removed, if memory cannot."""
        if (start or end >= 0) and not self.keeps_window(seq, start, end):
            return False
        done: bool = C.llama_memory_seq_rm(self._memory, seq, start, end)
        return done

    def keeps_window(self, seq: int, start: int, end: int = -1) -> bool:
        """Whether without positions [start, end) of a sequence the next token still sees its sliding window.

        A restored state has no more than one window, and a small cache of windows little more.
        """
        if not self._window:
            return True
        behind = C.llama_memory_seq_pos_max(self._memory, seq) - end + 1 if end >= 0 else 0
        before = self._window - 1 - behind
        first: int = C.llama_memory_seq_pos_min(self._memory, seq)
        return before <= 0 or first <= max(start - before, 0)

    def make_room(self, seq: int, count: int) -> bool:
        """See that a sequence's next `count` tokens go behind all others in its small cache of windows.

        llama.cpp would put them over the oldest ones, and adds up in the order of the cells. So the window goes to the
        beginning in time, at a multiple of what attention takes at once. On GPUs, whose sums vary anyway, nothing is
        done. False if the cells of the window are lost: there was no memory.
        """
        if not self.packs:
            return True
        end: int = C.llama_memory_seq_pos_max(self._memory, seq) + 1
        held: int = end - max(C.llama_memory_seq_pos_min(self._memory, seq), 0)
        room = self._window_cells - held
        if held <= self._window or room >= count + ALIGNMENT or (room >= count and end % ALIGNMENT):
            return True
        size: int = C.llama_state_seq_get_size_ext(self._ctx, seq, PARTIAL)
        try:
            data = np.empty(size, np.uint8)
        except MemoryError:
            return room >= count
        if not size or C.llama_state_seq_get_data_ext(self._ctx, _pointer(data), size, seq, PARTIAL) != size:
            return room >= count
        return bool(C.llama_state_seq_set_data_ext(self._ctx, _pointer(data), size, seq, PARTIAL))

    def shift(self, seq: int, start: int, end: int, by: int) -> None:
        """Move positions [start, end) of a sequence by `by`."""
        C.llama_memory_seq_add(self._memory, seq, start, end, by)
        self._has_shifts = True

    def save(self, seq: int) -> SavedState | None:
        """A copy of a sequence's cells; None if memory is short or llama.cpp refuses."""
        if self._has_shifts and not self._apply_shifts(seq):
            return None
        size: int = C.llama_state_seq_get_size_ext(self._ctx, seq, 0)
        try:
            data = buffer(size)
        except MemoryError:
            return None
        if not size or C.llama_state_seq_get_data_ext(self._ctx, _pointer(data), size, seq, 0) != size:
            return None
        if self.can_cut_states:
            return portable(data, size, self._n_stream)
        return SavedState(data, 0, size, self._n_stream)

    def restore(self, seq: int, state: SavedState) -> bool:
        """Fill an empty sequence with saved cells. False if they do not fit this context; then it stays empty."""
        data = state.fit(self._n_stream)
        if data is None:
            return False
        done: int = C.llama_state_seq_set_data_ext(self._ctx, _pointer(data), data.nbytes, seq, 0)
        if not done:
            self.remove(seq, 0)
        return bool(done)

    def reshape(self, shape: Shape) -> bool:
        """Replace the context by one of another shape, on the same weights. All cells are lost.

        False if there is no memory for it: then the shape is as before. Raises ModelError if there is none for that.
        """
        C.llama_free(self._ctx)
        self._ctx = None
        try:
            self._set_context(shape)
        except ModelError:
            self._set_context(self.shape)
        self.threads.bind(self._ctx)
        return self.shape == shape

    def params(self) -> C.llama_context_params:
        """Parameters that every context on this model shares: threads, KV cache types, flash attention, abort flag."""
        spec = self._spec
        params = C.llama_context_default_params()
        params.n_threads = params.n_threads_batch = spec.n_threads
        params.kv_unified = True
        params.type_k, params.type_v = self._cache_types
        params.flash_attn_type = spec.flash_attention
        params.abort_callback = self.abort.callback
        params.abort_callback_data = self.abort.data
        params.no_perf = True
        return params

    @property
    def _cache_types(self) -> tuple[int, int]:
        """The ggml types of K and V."""
        keys, values = self._spec.cache_type, self._spec.cache_type_v or self._spec.cache_type
        return CACHE_TYPES.get(keys, CACHE_TYPES["f16"]), CACHE_TYPES.get(values, CACHE_TYPES["f16"])

    def device_buffers(self) -> tuple[DeviceBuffers, ...]:
        """What llama.cpp has allocated for model, adapters and context, by the device."""
        taken: dict[str, dict[str, int]] = {HOST: {}}
        for (kind, name), size in (*self._model_buffers.items(), *self._context_buffers.items()):
            device = name.removesuffix(MAPPED)
            sums = taken.setdefault(device if device in self._spec.devices else HOST, {})
            sums[kind] = sums.get(kind, 0) + size
        return tuple(
            DeviceBuffers(
                device,
                weights=sums.get(MODEL, 0) + sums.get(ADAPTER, 0),
                cache=sum(sums.get(kind, 0) for kind in CACHES),
                compute=sum(sums.get(kind, 0) for kind in PASSES),
            )
            for device, sums in taken.items()
        )

    def create_sibling(self, params: C.llama_context_params) -> C.llama_context_p:
        """A second context on the same weights and adapters; the caller frees it before this one. Raises ModelError."""
        context = self._init_context(params)
        self._add_adapters(context)
        return context

    def sibling_threads(self, context: C.llama_context_p) -> Threads:
        """The thread count of a context from `create_sibling`."""
        return Threads(context, self.cores)

    def close(self) -> None:
        """Free context and model; neither may be used afterwards."""
        C.llama_free(self._ctx)
        self._free_model()

    def _free_model(self) -> None:
        if self.projector is not None:
            self.projector.close()
        C.llama_model_free(self._model)

    def _load(self, spec: LoadModel, progress: Callable[[float], None]) -> C.llama_model_p:
        """Load the model. Raises ModelError."""
        params = C.llama_model_default_params()
        params.n_gpu_layers = spec.n_gpu_layers
        places = _Places(spec)  # must live until the model is loaded
        places.set(params)
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
            raise self._refusal("failed to load model")
        if reported < 1:  # where weights are copied, the library's own last report may be lower
            progress(1.0)
        return model

    def _set_context(self, shape: Shape) -> None:
        """Make a context of this shape. Raises ModelError."""
        params = self.params()
        params.kv_unified = shape.unified
        params.n_ctx = shape.total
        whole = 0 if self.projector is None else self.projector.largest_whole
        params.n_batch = max(self._spec.n_batch, whole)
        params.n_ubatch = max(min(self._spec.n_batch, MICRO_BATCH), whole)
        params.n_seq_max = shape.streams
        params.n_outputs_max = self.n_outputs
        params.swa_full = not self._small_windows
        self._ctx = self._init_context(params)
        self._context_buffers = dict(self._log.buffers)
        self.shape = shape
        self._n_stream = 1 if shape.unified else shape.streams
        self._has_shifts = False
        self._logits_at = 0
        self._memory = C.llama_get_memory(self._ctx)
        self._window_cells = padded(self._window + C.llama_n_ubatch(self._ctx))  # of a stream, as llama.cpp makes them
        fits = shape.cells <= self._window_cells
        self.packs = self._small_windows and self.on_cpu and not shape.unified and not fits
        self._add_adapters(self._ctx)
        # Of models with sliding windows or recurrent layers, a state has further parts behind the first cache's counts.
        empty = STATE_HEAD + WORD * (1 + self._n_stream)
        self.can_cut_states: bool = self.can_cut and C.llama_state_seq_get_size_ext(self._ctx, 0, 0) == empty

    def _refusal(self, what: str) -> ModelError:
        """The error for what llama.cpp has refused, by its log."""
        kind = NoMemory if self._log.out_of_memory else ModelError
        return kind(self._log.reason(what, self._private))

    def _apply_shifts(self, seq: int) -> bool:
        """Have llama.cpp turn the keys of moved cells, which it does with the next pass only and no state tells."""
        end = C.llama_memory_seq_pos_max(self._memory, seq) + 1
        batch = Batch(1)
        batch.add(seq, [0], end, output=False)
        self._has_shifts = C.llama_decode(self._ctx, batch.as_struct()) not in (0, NO_SLOT)
        C.llama_memory_seq_rm(self._memory, seq, end, -1)
        return not self._has_shifts

    def _init_context(self, params: C.llama_context_params) -> C.llama_context_p:
        self._log.clear()
        context = C.llama_init_from_model(self._model, params)
        if not context:
            raise self._refusal("failed to create a context")
        return context

    def _load_projector(self, spec: LoadModel) -> Projector | None:
        if not spec.projector:
            return None
        self._log.clear()
        try:
            return Projector(spec, self._model, self._log, on_gpu=not self.on_cpu)
        except ProjectorError as error:
            raise ModelError(str(error)) from None

    def _load_adapters(self, paths: Sequence[str]) -> list[C.llama_adapter_lora_p]:
        loaded = [C.llama_adapter_lora_init(self._model, path.encode()) for path in paths]
        if not all(loaded):
            raise self._refusal("failed to load an adapter")
        return loaded

    def _add_adapters(self, context: C.llama_context_p) -> None:
        if self._adapters:
            count = len(self._adapters)
            handles = (C.llama_adapter_lora_p_ctypes * count)(*self._adapters)
            C.llama_set_adapters_lora(context, handles, count, (ctypes.c_float * count)(*[1.0] * count))


class _Override(ctypes.Structure):
    """`llama_model_tensor_buft_override`: where tensors go whose names match a pattern."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


class _Places:
    """Where the weights of a load go, as llama.cpp wants to be told. Raises ModelError for a device that has gone."""

    def __init__(self, spec: LoadModel) -> None:
        handles = [_device(name) for name in spec.devices]
        self._devices = (ctypes.c_void_p * (len(handles) + 1))(*handles)
        self._chosen = bool(handles) or spec.n_gpu_layers == 0
        self._split = (ctypes.c_float * max(C.LLAMA_MAX_DEVICES, 1))(*spec.tensor_split)
        patterns = [EXPERTS_OF_LAYER.format(layer).encode() for layer in range(spec.cpu_experts)]
        memory = call("ggml_backend_cpu_buffer_type", ctypes.c_void_p)
        rows = [_Override(pattern, memory) for pattern in patterns]
        self._overrides = (_Override * (len(rows) + 1))(*rows)

    def set(self, params: C.llama_model_params) -> None:
        """Put it into the parameters of a load, which then refer to this object."""
        if self._chosen:
            params.devices = ctypes.cast(self._devices, ctypes.c_void_p)
        params.tensor_split = ctypes.cast(self._split, ctypes.POINTER(ctypes.c_float))
        params.tensor_buft_overrides = ctypes.cast(self._overrides, ctypes.c_void_p)


def _device(name: str) -> int:
    handle: int | None = call("ggml_backend_dev_by_name", ctypes.c_void_p, ctypes.c_char_p(name.encode()))
    if not handle:
        raise ModelError(f"failed to load model: the device {name} has gone")
    return handle


def _memory_of(buffers: Mapping[tuple[str, str], int]) -> tuple[int, int]:
    """Bytes of the weights in mapped pages of the file, and in other memory of this machine, from llama.cpp's log."""
    sizes = [(name, size) for (kind, name), size in buffers.items() if kind in (MODEL, ADAPTER)]
    mapped = sum(size for name, size in sizes if name.endswith(MAPPED))
    own = ("CPU", *layout_names())
    host = sum(size for name, size in sizes if name in own or name.endswith(PINNED))
    return mapped, host


def _pointer(data: Bytes) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
