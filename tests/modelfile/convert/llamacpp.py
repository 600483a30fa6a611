"""What llama.cpp computes with a converted file, on one thread and without a mapping of the file."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import llama_cpp.llama_cpp as C
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

ERRORS: list[str] = []
ERROR_LEVEL = 4
F16, BF16 = 1, 30  # llama.cpp's numbers for types
MEAN, RANK = 1, 4  # llama.cpp's numbers for pooling by the mean, and by a classifier


@C.llama_log_callback
def _keep_errors(level: int, text: bytes, _data: object) -> None:
    if level == ERROR_LEVEL:
        ERRORS.append(text.decode("utf-8", "replace").strip())


C.llama_log_set(_keep_errors, None)


def last_logits(model: Path, ids: Sequence[int], adapter: Path | None = None) -> Vector:
    """The logits after the last token, with an adapter if one is given."""
    with _model(model) as loaded, _context(loaded) as context:
        if adapter is not None:
            lora = C.llama_adapter_lora_init(loaded, str(adapter).encode())
            assert lora is not None, ERRORS[-3:]
            one = (C.llama_adapter_lora_p_ctypes * 1)(lora)
            assert C.llama_set_adapters_lora(context, one, 1, (ctypes.c_float * 1)(1.0)) == 0
        _decode(context, ids, every=False)
        size = C.llama_vocab_n_tokens(C.llama_model_get_vocab(loaded))
        return np.ctypeslib.as_array(C.llama_get_logits_ith(context, -1), (size,)).copy()


def embedding(model: Path, ids: Sequence[int], pooling: int = MEAN, values: int = F16) -> Vector:
    """The pooled vector of a text, not normalised; for RANK the outputs of the classifier.

    `values` is the type of the KV cache's values.
    """
    with _model(model) as loaded, _context(loaded, pooling, values) as context:
        _decode(context, ids, every=True)
        size = C.llama_model_n_cls_out(loaded) if pooling == RANK else C.llama_model_n_embd(loaded)
        return np.ctypeslib.as_array(C.llama_get_embeddings_seq(context, 0), (size,)).copy()


def tokenize(model: Path, text: str, *, special: bool = True, parse: bool = True) -> list[int]:
    """The ids of a text, with the tokens around it if `special`; `parse`: names of special tokens are these tokens."""
    with _model(model, vocabulary_only=True) as loaded:
        data = text.encode()
        buffer = (C.llama_token * (len(data) + 16))()
        vocabulary = C.llama_model_get_vocab(loaded)
        count = C.llama_tokenize(vocabulary, data, len(data), buffer, len(buffer), special, parse)
        assert count >= 0
        return list(buffer[:count])


def cosine(left: Sequence[float] | Vector, right: Sequence[float] | Vector) -> float:
    """The cosine of the angle between two vectors."""
    a, b = np.asarray(left, np.float64), np.asarray(right, np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@contextmanager
def _model(path: Path, *, vocabulary_only: bool = False) -> Iterator[ctypes.c_void_p]:
    params = C.llama_model_default_params()
    params.use_mmap = False
    params.n_gpu_layers = 0
    params.vocab_only = vocabulary_only
    model = C.llama_model_load_from_file(str(path).encode(), params)
    assert model is not None, ERRORS[-3:]
    yield model
    C.llama_model_free(model)


@contextmanager
def _context(model: ctypes.c_void_p, pooling: int | None = None, values: int = F16) -> Iterator[ctypes.c_void_p]:
    params = C.llama_context_default_params()
    params.type_v = values
    params.n_ctx = params.n_batch = params.n_ubatch = 256
    params.n_threads = params.n_threads_batch = 1
    if pooling is not None:
        params.embeddings = True
        params.pooling_type = pooling
    context = C.llama_init_from_model(model, params)
    assert context is not None, ERRORS[-3:]
    yield context
    C.llama_free(context)


def _decode(context: ctypes.c_void_p, ids: Sequence[int], *, every: bool) -> None:
    batch = C.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for place, token in enumerate(ids):
        batch.token[place], batch.pos[place] = token, place
        batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
        batch.logits[place] = every or place == len(ids) - 1
    assert C.llama_decode(context, batch) == 0, ERRORS[-3:]
    C.llama_batch_free(batch)
