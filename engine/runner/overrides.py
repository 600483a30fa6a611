"""Entries of a file's metadata that count in place of those that are in it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from engine.runner.bindings import C


def metadata_overrides(entries: Sequence[tuple[str, bool | int | float | str]]) -> ctypes.Array[Any]:
    """The array that llama.cpp wants, which must live until the model is loaded; it ends with an empty entry."""
    rows: ctypes.Array[Any] = (C.llama_model_kv_override * (len(entries) + 1))()
    for row, (key, value) in zip(rows, entries, strict=False):
        row.key = key.encode()
        _fill(row, value)
    return rows


def _fill(row: C.llama_model_kv_override, value: bool | int | float | str) -> None:
    match value:
        case bool():
            row.tag, row.value.val_bool = C.LLAMA_KV_OVERRIDE_TYPE_BOOL, value
        case int():
            row.tag, row.value.val_i64 = C.LLAMA_KV_OVERRIDE_TYPE_INT, value
        case float():
            row.tag, row.value.val_f64 = C.LLAMA_KV_OVERRIDE_TYPE_FLOAT, value
        case str():
            row.tag, row.value.val_str = C.LLAMA_KV_OVERRIDE_TYPE_STR, value.encode()
