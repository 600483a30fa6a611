"""Jobs done by llama.cpp: quantize, merge, verify."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import Any, Final

import llama_cpp.llama_cpp as C

from modelfile import backends
from modelfile.worker_protocol import JobError, Quantize, Verify

backends.load(C._lib)  # before any other call

_TENSOR: Final = re.compile(rb"\[ *(\d+)/ *(\d+)\] ")
_REASON: Final = re.compile(r"(?:failed to quantize|error loading model|llama_model_load): (.+)")
_ERROR: Final = 4
_BUFFER: Final = 1 << 30  # bytes of results that may wait for the disk
_TYPES: Final = {"F16": C.GGML_TYPE_F16, "Q8_0": C.GGML_TYPE_Q8_0}


class _Log:
    """Reads llama.cpp's log for progress and the reason of a failure. A context manager."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self._progress = progress
        self._errors: list[str] = []
        self._callback = C.llama_log_callback(self._take)

    def __enter__(self) -> _Log:
        C.llama_log_set(self._callback, None)
        return self

    def __exit__(self, *_: object) -> None:
        C.llama_log_set(C.llama_log_callback(0), None)

    @property
    def reason(self) -> str:
        """The last error in the log."""
        reasons = [match[1] for text in self._errors if (match := _REASON.search(text))]
        return reasons[-1] if reasons else "llama.cpp does not say why"

    def _take(self, level: int, text: bytes, _: Any) -> None:
        if match := _TENSOR.match(text):
            self._progress(int(match[1]), int(match[2]))
        elif level == _ERROR:
            self._errors.append(text.decode("utf-8", "replace").strip())


def quantize(job: Quantize, progress: Callable[[int, int], None]) -> None:
    """Quantize to the job's target. `progress` counts tensors. Raises JobError."""
    parameters = C.llama_model_quantize_default_params()
    parameters.max_buf_size = _BUFFER
    if job.number is None:
        parameters.only_copy = True
    else:
        parameters.ftype = job.number
    if job.exceptions:
        parameters.tt_overrides = _overrides(job.exceptions)
    with _Log(progress) as log:
        if C.llama_model_quantize(job.source.encode(), job.target.encode(), ctypes.byref(parameters)):
            raise JobError(f"failed to quantize: {log.reason}")


def verify(job: Verify) -> None:
    """Load the model without memory for its weights. Raises JobError if that fails."""
    parameters = C.llama_model_default_params()
    parameters.n_gpu_layers = 0
    parameters.no_alloc = True
    parameters.load_mode = C.LLAMA_LOAD_MODE_NONE
    with _Log(_nothing) as log:
        model = C.llama_model_load_from_file(job.path.encode(), parameters)
        if not model:
            raise JobError(f"llama.cpp cannot load the model: {log.reason}")
        C.llama_model_free(model)


def _nothing(_completed: int, _total: int) -> None:
    """Loading reports no progress."""


def _overrides(exceptions: tuple[tuple[str, str], ...]) -> Any:
    """llama.cpp's array of overrides, terminated by an empty entry."""
    rows = [C.llama_model_tensor_override(pattern.encode(), _TYPES[kind]) for pattern, kind in exceptions]
    return (C.llama_model_tensor_override * (len(rows) + 1))(*rows)
