"""Which flags llama.cpp is compiled with, by compiler, processor and what the user wants."""

import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.build_flags import Facts, attempts, look, unused

KEEP_STORES = "-fno-dse -fno-tree-dse"
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
AVX2 = frozenset({"sse4_2", "avx", "avx2", "bmi2", "fma", "f16c"})
XEON = Facts("x86_64", "gcc", (12, 2, 0), AVX2 | {"avx512f", "avx512_vnni", "amx_tile", "amx_int8", "amx_bf16"})
"""Sapphire Rapids under Debian 12."""


def c_flags(text: str) -> list[str]:
    """What is in CMAKE_C_FLAGS and in CMAKE_CXX_FLAGS."""
    words = dict(word.split("=", 1) for word in shlex.split(text))
    return [words.get(f"-DCMAKE_{language}_FLAGS", "") for language in ("C", "CXX")]


def test_amx_and_a_compiler_that_forgets_its_tiles() -> None:
    found = attempts(XEON)
    assert [attempt.what for attempt in found] == [
        "for this processor",
        "without AMX",
        "without AVX-512",
        "for any processor of its kind",
    ]
    assert [c_flags(attempt.cmake_args) for attempt in found] == [
        [KEEP_STORES] * 2,
        [NO_AMX] * 2,
        [f"{NO_AMX} -mno-avx512f"] * 2,
        [""] * 2,
    ]
    assert found[-1].cmake_args == "-DGGML_NATIVE=OFF"


@pytest.mark.parametrize(
    ("compiler", "version", "careful"),
    [
        ("gcc", (10, 2, 1), False),  # knows no AMX
        ("gcc", (11, 4, 0), True),
        ("gcc", (11, 5, 0), False),
        ("gcc", (12, 3, 0), True),
        ("gcc", (12, 4, 0), False),
        ("gcc", (13, 2, 0), True),
        ("gcc", (13, 3, 0), False),
        ("gcc", (14, 1, 0), False),
        ("clang", (12, 0, 0), False),
        ("", (), False),
    ],
)
def test_other_compilers(compiler: str, version: tuple[int, ...], careful: bool) -> None:
    found = attempts(replace(XEON, compiler=compiler, version=version))
    assert found[0].cmake_args == (
        f"'-DCMAKE_C_FLAGS={KEEP_STORES}' '-DCMAKE_CXX_FLAGS={KEEP_STORES}'" if careful else ""
    )
    assert len(found) == 4


@pytest.mark.parametrize(
    ("facts", "args"),
    [
        (replace(XEON, flags=AVX2 | {"avx512f"}), ["", "-mno-avx512f", "-DGGML_NATIVE=OFF"]),
        (replace(XEON, flags=AVX2), ["", "-DGGML_NATIVE=OFF"]),
        (
            replace(XEON, flags=frozenset({"sse4_2"})),  # a small Intel: what is taken for granted is not there
            [
                "",
                "-DGGML_NATIVE=OFF -DGGML_AVX=OFF -DGGML_AVX2=OFF -DGGML_BMI2=OFF -DGGML_FMA=OFF -DGGML_F16C=OFF",
            ],
        ),
        (replace(XEON, flags=frozenset()), ["", "-DGGML_NATIVE=OFF"]),  # nothing could be found out
        (Facts("aarch64", "gcc", (12, 2, 0), frozenset({"arm_feature_dotprod"})), ["", "-DGGML_NATIVE=OFF"]),
        (Facts("arm64", "clang", (17, 0, 0), frozenset()), ["", "-DGGML_NATIVE=OFF"]),
    ],
)
def test_other_processors(facts: Facts, args: list[str]) -> None:
    found = [attempt.cmake_args for attempt in attempts(facts)]
    assert len(found) == len(args)
    assert all(want in (text, *c_flags(text)) for text, want in zip(found, args, strict=True)), found


def test_what_the_user_wants_is_in_all() -> None:
    found = attempts(replace(XEON, cmake_args="-DGGML_CUDA=on '-DCMAKE_C_FLAGS:STRING=-O2 -g'", cxxflags="-Wall"))
    assert all(shlex.split(attempt.cmake_args)[0] == "-DGGML_CUDA=on" for attempt in found)
    assert c_flags(found[0].cmake_args) == [f"-O2 -g {KEEP_STORES}", f"-Wall {KEEP_STORES}"]
    assert shlex.split(found[-1].cmake_args) == ["-DGGML_CUDA=on", "-DCMAKE_C_FLAGS:STRING=-O2 -g", "-DGGML_NATIVE=OFF"]


def test_who_wants_no_native_build_has_one_attempt_before_the_last() -> None:
    found = attempts(replace(XEON, cmake_args="-DGGML_NATIVE=off"))
    assert [attempt.what for attempt in found] == ["as CMAKE_ARGS says", "for any processor of its kind"]
    assert found[0].cmake_args == "-DGGML_NATIVE=off"


def test_all_variants_have_amx_whatever_they_are_built_on() -> None:
    args = "-DGGML_NATIVE=OFF -DGGML_CPU_ALL_VARIANTS=ON -DGGML_BACKEND_DL=ON"
    assert c_flags(attempts(replace(XEON, flags=AVX2, cmake_args=args))[0].cmake_args) == [KEEP_STORES] * 2


def test_an_open_quotation_mark_is_left_to_who_reads_it() -> None:
    found = attempts(replace(XEON, cmake_args="'-DGGML_CUDA=on"))
    assert [attempt.cmake_args for attempt in found] == ["'-DGGML_CUDA=on"]


def test_what_a_library_made_elsewhere_does_not_use() -> None:
    info = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | AVX512 = 1 | AMX_INT8 = 1 | REPACK = 1 |"
    assert unused(XEON, info) == []
    assert unused(XEON, "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 |") == ["AVX512", "AMX_INT8"]
    assert unused(replace(XEON, flags=AVX2), "CPU : AVX = 1 | AVX2 = 1 |") == []
    assert unused(replace(XEON, flags=frozenset()), "CPU : NEON = 1 |") == []


def test_this_machine() -> None:
    here = look(os.environ)
    assert here.architecture
    assert attempts(here)[-1].cmake_args.startswith("-DGGML_NATIVE=OFF")


def test_a_compiler_is_asked(tmp_path: Path) -> None:
    compiler = tmp_path / "my-gcc"
    compiler.write_text(
        "#!/bin/sh\necho '#define __GNUC__ 12'; echo '#define __GNUC_MINOR__ 3'; echo '#define __GNUC_PATCHLEVEL__ 0'\n"
        'case "$*" in *-march=native*) echo "#define __AMX_TILE__ 1"; echo "#define __AVX512F__ 1";; esac\n'
    )
    compiler.chmod(0o755)
    for environ in ({"CXX": str(compiler)}, {"CMAKE_ARGS": f"-DCMAKE_CXX_COMPILER={compiler}"}):
        here = look(environ)
        assert (here.compiler, here.version) == ("gcc", (12, 3, 0))
        assert {"amx_tile", "avx512f"} <= here.flags


def test_without_a_compiler_the_system_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    here = look({})
    assert (here.compiler, here.version) == ("", ())
