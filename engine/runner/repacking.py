"""Which weights llama.cpp copies because a CPU backend has a faster layout for them (AMX, repacked rows).

The answer depends on the build, the processor and the tensor type, so the library is asked as its loader asks it:
whether an operation on a small tensor is supported in that layout.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from engine.runner.llamacpp import C, call

CPU_DEVICE = 0
SIDE = 256  # of the test matrix: a multiple of every block and tile
TENSORS = 8  # in one ggml context, at most

_Pointer = ctypes.c_void_p
_GetExtraBuffers = ctypes.CFUNCTYPE(ctypes.POINTER(_Pointer), _Pointer)


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", _Pointer), ("no_alloc", ctypes.c_bool))


def copied_types() -> tuple[str, ...]:
    """The tensor types, by their GGUF names, that are copied into another layout. Needs `llama_backend_init`."""
    device = _processor()
    layouts = list(_layouts(device))
    numbers = range(C.GGML_TYPE_COUNT)
    copied = [number for number in numbers if any(_is_copied(device, layout, number) for layout in layouts)]
    return tuple(call("ggml_type_name", ctypes.c_char_p, number).decode().upper() for number in copied)


def layout_names() -> tuple[str, ...]:
    """The buffer types of such copies, by the names that llama.cpp's log has for them."""
    layouts = _layouts(_processor())
    return tuple(call("ggml_backend_buft_name", ctypes.c_char_p, _Pointer(layout)).decode() for layout in layouts)


def _processor() -> int:
    device: int = call("ggml_backend_dev_by_type", _Pointer, CPU_DEVICE)
    return device


def _layouts(device: int) -> Iterator[int]:
    """Addresses of the CPU device's extra buffer types, one for each other layout."""
    registry = call("ggml_backend_dev_backend_reg", _Pointer, _Pointer(device))
    name = b"ggml_backend_dev_get_extra_bufts"
    address = call("ggml_backend_reg_get_proc_address", _Pointer, _Pointer(registry), ctypes.c_char_p(name))
    if not address:
        return
    layouts = _GetExtraBuffers(address)(device)
    index = 0
    while layouts and layouts[index]:
        yield layouts[index]
        index += 1


def _is_copied(device: int, layout: int, number: int) -> bool:
    """Whether a matrix of type `number` can be multiplied in this layout."""
    if not call("ggml_blck_size", ctypes.c_int64, number):
        return False  # a removed type
    weights, operation = _context(), _context()
    buffer = None
    try:
        matrix = _tensor(weights, number)
        buffer = call("ggml_backend_alloc_ctx_tensors_from_buft", _Pointer, weights, _Pointer(layout))
        if not buffer:
            return False
        product = call("ggml_mul_mat", _Pointer, operation, matrix, _tensor(operation, C.GGML_TYPE_F32))
        return bool(call("ggml_backend_dev_supports_op", ctypes.c_bool, _Pointer(device), _Pointer(product)))
    finally:
        if buffer:
            call("ggml_backend_buffer_free", None, _Pointer(buffer))
        call("ggml_free", None, operation)
        call("ggml_free", None, weights)


def _context() -> ctypes.c_void_p:
    size = TENSORS * call("ggml_tensor_overhead", ctypes.c_size_t)
    return _Pointer(call("ggml_init", _Pointer, _InitParams(size, None, True)))


def _tensor(context: ctypes.c_void_p, number: int) -> ctypes.c_void_p:
    side = ctypes.c_int64(SIDE)
    return _Pointer(call("ggml_new_tensor_2d", _Pointer, context, number, side, side))
