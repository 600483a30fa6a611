"""What counts in place of a file's metadata."""

from __future__ import annotations

import pytest

from engine.runner.llamacpp import C, metadata_overrides


@pytest.mark.parametrize(
    ("value", "tag", "field"),
    [
        (True, C.LLAMA_KV_OVERRIDE_TYPE_BOOL, "val_bool"),
        (128009, C.LLAMA_KV_OVERRIDE_TYPE_INT, "val_i64"),
        (0.5, C.LLAMA_KV_OVERRIDE_TYPE_FLOAT, "val_f64"),
        ("llama-bpe", C.LLAMA_KV_OVERRIDE_TYPE_STR, "val_str"),
    ],
)
def test_each_type(value: bool | int | float | str, tag: int, field: str) -> None:
    row, end = metadata_overrides([("the.key", value)])
    assert (row.key, row.tag) == (b"the.key", tag)
    assert getattr(row.value, field) == (value.encode() if isinstance(value, str) else value)
    assert end.key == b""
