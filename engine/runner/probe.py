"""Lists the devices of llama.cpp's backends: `python -m engine.runner.probe` writes a JSON list of `BackendDevice`.

It is a process of its own and ends at once, because whoever looks at a GPU takes some of its memory.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator

import msgspec

from engine.messages import BackendDevice
from engine.runner.llamacpp import C, call, library_log
from modelfile.operating_system import prepare_child

KINDS = ("cpu", "gpu", "igpu", "accel", "meta")  # `ggml_backend_dev_type`

_Pointer = ctypes.c_void_p


class _Properties(ctypes.Structure):
    """`ggml_backend_dev_props`, with room for further capabilities."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("free", ctypes.c_size_t),
        ("total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("capabilities", ctypes.c_bool * 32),
    )


def devices() -> Iterator[BackendDevice]:
    """The devices of all backends, in llama.cpp's order. Needs `llama_backend_init`."""
    for index in range(call("ggml_backend_dev_count", ctypes.c_size_t)):
        device = _Pointer(call("ggml_backend_dev_get", _Pointer, ctypes.c_size_t(index)))
        properties = _Properties()
        call("ggml_backend_dev_get_props", None, device, ctypes.byref(properties))
        registry = _Pointer(call("ggml_backend_dev_backend_reg", _Pointer, device))
        yield BackendDevice(
            name=_text(properties.name),
            description=_text(properties.description),
            backend=_text(call("ggml_backend_reg_name", ctypes.c_char_p, registry)),
            kind=KINDS[properties.type] if properties.type < len(KINDS) else "",
            total=properties.total,
            free=properties.free,
            address=_text(properties.device_id),
        )


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace").strip()


if __name__ == "__main__":
    prepare_child()
    library_log()
    C.llama_backend_init()
    sys.stdout.buffer.write(msgspec.json.encode(list(devices())))
