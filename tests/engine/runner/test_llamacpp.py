"""What a child imports and nobody else does; metadata overrides."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.runner.llamacpp import C, metadata_overrides


def imported(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    )


def test_a_child_imports_the_bindings_and_nothing_else_of_the_package() -> None:
    modules = imported("import engine.runner.child")
    assert "llama_cpp.llama_cpp" in modules
    assert not modules & {
        "llama_cpp",
        "llama_cpp.llama",
        "jinja2",
        "diskcache",
        "asyncio",
        "fastapi",
        "engine.loading.process",
    }


@pytest.mark.parametrize("module", ["engine.loading.process", "engine.engine", "server.app"])
def test_the_parent_never_imports_the_library(module: str) -> None:
    assert not [name for name in imported(f"import {module}") if name.startswith(("llama_cpp", "engine.runner"))]


def test_the_package_can_still_be_imported_afterwards_and_is_the_same_library() -> None:
    modules = imported(
        "from engine.runner.llamacpp import C, version\n"
        "import llama_cpp\n"
        "assert llama_cpp.llama_cpp is C and llama_cpp.__version__ == version() and llama_cpp.Llama"
    )
    assert "llama_cpp.llama" in modules


@pytest.mark.parametrize(
    ("value", "tag", "field"),
    [
        (True, C.LLAMA_KV_OVERRIDE_TYPE_BOOL, "val_bool"),
        (128009, C.LLAMA_KV_OVERRIDE_TYPE_INT, "val_i64"),
        (0.5, C.LLAMA_KV_OVERRIDE_TYPE_FLOAT, "val_f64"),
        ("llama-bpe", C.LLAMA_KV_OVERRIDE_TYPE_STR, "val_str"),
    ],
)
def test_metadata_overrides_of_each_type(value: bool | int | float | str, tag: int, field: str) -> None:
    row, end = metadata_overrides([("the.key", value)])
    assert (row.key, row.tag) == (b"the.key", tag)
    assert getattr(row.value, field) == (value.encode() if isinstance(value, str) else value)
    assert end.key == b""
