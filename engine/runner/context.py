"""One model and its llama.cpp context: every call into the library that is not sampling.

The loop thread owns decoding and the cache. Tokenising is safe from another thread, as it only reads the vocabulary.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Sequence

import llama_cpp.llama_cpp as C
import numpy as np
import numpy.typing as npt

from engine.messages import Load

log = logging.getLogger(__name__)

CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
ERROR_LEVEL = 4  # ggml's log levels: 1 debug, 2 info, 3 warning, 4 error, 5 continuation
ABORTED = 2
NO_SLOT = 1

_libc = ctypes.CDLL(None)


class ModelError(RuntimeError):
    """llama.cpp refused the model or could not make a context for it."""


class DecodeError(RuntimeError):
    """A forward pass failed for a reason other than a full cache or an abort."""


class Log:
    """Receives llama.cpp's log: errors are kept for the message of a failed load, the rest goes to debug logging."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._callback = C.llama_log_callback(self._receive)  # must stay referenced as long as the library logs
        C.llama_log_set(self._callback, None)

    def _receive(self, level: int, text: bytes, _user_data: object) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level == ERROR_LEVEL and line:
            self.errors.append(line)
        if line:
            log.debug("%s", line)


class AbortFlag:
    """A flag that llama.cpp's CPU threads read without Python: libc's strlen over two bytes is the callback.

    A Python callback would take the GIL at every graph node.
    """

    def __init__(self) -> None:
        self._bytes = ctypes.create_string_buffer(2)
        self.callback = ctypes.cast(_libc.strlen, C.ggml_abort_callback)
        self.data = ctypes.cast(self._bytes, ctypes.c_void_p)

    def set(self) -> None:
        """Make the forward pass that is running return soon."""
        self._bytes[0] = b"\1"

    def clear(self) -> None:
        """Let the next forward pass run."""
        self._bytes[0] = b"\0"

    def is_set(self) -> bool:
        """Whether an abort was asked for."""
        return self._bytes[0] != b"\0"


class Batch:
    """The tokens of one forward pass, in memory that llama.cpp reads in place. `capacity` tokens at most."""

    def __init__(self, capacity: int) -> None:
        self.size = 0
        self.token = np.empty(capacity, np.int32)
        self.pos = np.empty(capacity, np.int32)
        self.seq = np.empty(capacity, np.int32)
        self.output = np.zeros(capacity, np.int8)
        self._one = np.ones(capacity, np.int32)
        self._seq_at = self.seq.ctypes.data + 4 * np.arange(capacity, dtype=np.uintp)
        self._struct = C.llama_batch(
            n_tokens=0,
            token=self.token.ctypes.data_as(ctypes.POINTER(C.llama_token)),
            embd=None,
            pos=self.pos.ctypes.data_as(ctypes.POINTER(C.llama_pos)),
            n_seq_id=self._one.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._seq_at.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(C.llama_seq_id))),
            logits=self.output.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    @property
    def room(self) -> int:
        """How many more tokens fit."""
        return len(self.token) - self.size

    def clear(self) -> None:
        """Start a new pass."""
        self.size = 0

    def add(self, seq: int, tokens: Sequence[int], pos: int, *, output: bool) -> None:
        """Add consecutive tokens of one sequence, the first at `pos`; `output`: the last one's logits are wanted."""
        end = self.size + len(tokens)
        self.token[self.size : end] = tokens
        self.pos[self.size : end] = np.arange(pos, pos + len(tokens))
        self.seq[self.size : end] = seq
        self.output[self.size : end] = 0
        self.output[end - 1] = output
        self.size = end

    def as_struct(self) -> C.llama_batch:
        """The batch as llama.cpp takes it; valid until the next change."""
        self._struct.n_tokens = self.size
        return self._struct


class Context:
    """A loaded model with its context. Raises ModelError from the constructor; `close` frees everything."""

    def __init__(self, spec: Load, n_seq_max: int, progress: Callable[[float], None]) -> None:
        self._log = Log()
        self.abort = AbortFlag()
        self._model = self._load(spec, progress)
        self.vocab = C.llama_model_get_vocab(self._model)
        self.n_vocab: int = C.llama_vocab_n_tokens(self.vocab)
        self._ctx = self._make_context(spec, n_seq_max)
        self._memory = C.llama_get_memory(self._ctx)
        self._add_adapters(spec.adapters)
        # A recurrent state has no positions to cut at: it is extended or dropped as a whole.
        self.can_cut: bool = not (C.llama_model_is_recurrent(self._model) or C.llama_model_is_hybrid(self._model))
        self.can_shift: bool = self.can_cut and C.llama_memory_can_shift(self._memory)
        self.adds_bos: bool = C.llama_vocab_get_add_bos(self.vocab)
        self.weights: int = C.llama_model_size(self._model)
        self.gpu_share = self._gpu_share(spec.n_gpu_layers)
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """A text's token ids; special tokens written in the text are taken as such."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        while True:
            buffer = (C.llama_token * size)()
            n = C.llama_tokenize(self.vocab, data, len(data), buffer, size, add_special, True)
            if n >= 0:
                return buffer[:n]
            size = -n

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones written out. Ids outside the vocabulary are left out."""
        known = (self._render(t, special=True) for t in tokens if 0 <= t < self.n_vocab)
        return b"".join(known).decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """The bytes that a generated token adds to the text: nothing for control tokens."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._render(token, special=False)
        return found

    def ends(self, token: int) -> bool:
        """Whether the token ends the generation."""
        found = self._ends.get(token)
        if found is None:
            found = self._ends[token] = C.llama_vocab_is_eog(self.vocab, token)
        return found

    def decode(self, batch: Batch) -> int:
        """One forward pass. Returns 0, NO_SLOT (nothing changed) or ABORTED (roll back what was in the batch)."""
        code: int = C.llama_decode(self._ctx, batch.as_struct())
        if code in (0, NO_SLOT, ABORTED):
            return code
        raise DecodeError(f"llama_decode returned {code}")

    def logits(self, rows: int) -> npt.NDArray[np.float32]:
        """The logits of the last pass' outputs, in the batch's order: rows × n_vocab, llama.cpp's own memory."""
        pointer = C.llama_get_logits(self._ctx)
        return np.ctypeslib.as_array(pointer, (rows, self.n_vocab))

    def remove(self, seq: int, start: int, end: int = -1) -> bool:
        """Forget positions [start, end) of a sequence; False if this kind of memory cannot."""
        done: bool = C.llama_memory_seq_rm(self._memory, seq, start, end)
        return done

    def share(self, source: int, target: int, length: int) -> None:
        """Let `target` begin with the first `length` positions of `source`, in the same cells."""
        C.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def shift(self, seq: int, start: int, end: int, by: int) -> None:
        """Move positions [start, end) of a sequence."""
        C.llama_memory_seq_add(self._memory, seq, start, end, by)

    def close(self) -> None:
        """Free context and model. Nothing may be called afterwards."""
        C.llama_free(self._ctx)
        C.llama_model_free(self._model)

    def _load(self, spec: Load, progress: Callable[[float], None]) -> C.llama_model_p:
        params = C.llama_model_default_params()
        params.n_gpu_layers = spec.n_gpu_layers
        params.main_gpu = spec.main_gpu
        if spec.use_mmap is not None:
            params.load_mode = C.LLAMA_LOAD_MODE_MMAP if spec.use_mmap else C.LLAMA_LOAD_MODE_NONE

        def report(value: float, _user_data: object) -> bool:
            progress(value)
            return True

        callback = C.llama_progress_callback(report)
        params.progress_callback = callback
        model = C.llama_model_load_from_file(spec.path.encode(), params)
        if not model:
            raise ModelError(self._reason("failed to load model"))
        return model

    def _make_context(self, spec: Load, n_seq_max: int) -> C.llama_context_p:
        params = C.llama_context_default_params()
        params.n_ctx = spec.n_cells
        params.n_batch = spec.n_batch
        params.n_ubatch = min(spec.n_batch, 512)
        params.n_seq_max = n_seq_max
        params.n_outputs_max = n_seq_max
        params.n_threads = params.n_threads_batch = spec.n_threads
        params.kv_unified = True
        params.type_k = params.type_v = CACHE_TYPES.get(spec.cache_type, CACHE_TYPES["f16"])
        params.flash_attn_type = spec.flash_attention
        params.abort_callback = self.abort.callback
        params.abort_callback_data = self.abort.data
        params.no_perf = True
        context = C.llama_init_from_model(self._model, params)
        if not context:
            reason = self._reason("failed to create a context")
            C.llama_model_free(self._model)
            raise ModelError(reason)
        return context

    def _add_adapters(self, paths: Sequence[str]) -> None:
        if not paths:
            return
        loaded = [C.llama_adapter_lora_init(self._model, path.encode()) for path in paths]
        if not all(loaded):
            raise ModelError(self._reason("failed to load an adapter"))
        handles = (C.llama_adapter_lora_p_ctypes * len(loaded))(*loaded)
        scales = (ctypes.c_float * len(loaded))(*[1.0] * len(loaded))
        C.llama_set_adapters_lora(self._ctx, handles, len(loaded), scales)

    def _gpu_share(self, wanted: int) -> float:
        if not C.llama_supports_gpu_offload():
            return 0.0
        layers = C.llama_model_n_layer(self._model) + 1  # the output layer counts as one
        return 1.0 if wanted < 0 else min(wanted, layers) / layers

    def _reason(self, what: str) -> str:
        return f"{what}: {self._log.errors[0]}" if self._log.errors else what

    def _render(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = C.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            size = -n
