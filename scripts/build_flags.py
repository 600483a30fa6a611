"""Chooses flags to compile llama.cpp: attempts, the best first, from compiler, processor and the user's CMAKE_ARGS.

Some versions of GCC break AMX: their `_tile_loadconfig` claims to read 8 bytes of 64, so the stores of the others are
dropped, and the first `tilezero` dies with SIGILL. Without dead store elimination AMX works, and a long prompt is three
times as fast.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

AMX = ("amx_tile", "amx_int8", "amx_bf16")
AVX512 = "avx512f"
MENDED_GCC = {11: (11, 5), 12: (12, 4), 13: (13, 3)}  # the first fixed version of each
KEEP_STORES = ("-fno-dse", "-fno-tree-dse")
WITHOUT_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
WITHOUT_AVX512 = ("-mno-avx512f",)  # and with it all that builds on it
OFF = ("", "0", "OFF", "NO", "FALSE", "N", "IGNORE", "NOTFOUND")  # as CMake reads it
NOT_NATIVE = "-DGGML_NATIVE=OFF"
# What llama.cpp assumes on x86 when it compiles for any processor, and the switches to turn it off.
GRANTED = {"sse4_2": "SSE42", "avx": "AVX", "avx2": "AVX2", "bmi2": "BMI2", "fma": "FMA", "f16c": "F16C"}
# Features that decide about speed: the name in /proc/cpuinfo, and that in llama.cpp's system info.
SPEED = {"avx": "AVX", "avx2": "AVX2", AVX512: "AVX512", "amx_int8": "AMX_INT8"}
X86 = ("x86_64", "AMD64", "i686")
PATIENCE = 60.0  # seconds for a query of a compiler or the system
_CPUINFO = Path("/proc/cpuinfo")
_C_FLAGS = re.compile(r"-DCMAKE_(C|CXX)_FLAGS(?::\w+)?=(.*)", re.DOTALL)
_COMPILER = re.compile(r"-DCMAKE_CXX_COMPILER(?::\w+)?=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Facts:
    """The input of the choice. `flags` are the processor's features that a native build would use, by Linux' names;
    `cmake_args`, `cflags` and `cxxflags` are the user's environment variables."""

    architecture: str
    compiler: str  # gcc, clang, or empty
    version: tuple[int, ...]
    flags: frozenset[str]
    cmake_args: str = ""
    cflags: str = ""
    cxxflags: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to compile. `what` completes "compiling it …"; `cmake_args` is the whole environment variable."""

    what: str
    cmake_args: str


def attempts(facts: Facts) -> list[Attempt]:
    """Ways to compile llama.cpp, each safer and slower than the one before; all respect the user's CMAKE_ARGS."""
    try:
        shlex.split(facts.cmake_args)
    except ValueError:  # an open quotation mark; CMake reports it
        return [Attempt("as CMAKE_ARGS says", facts.cmake_args)]
    native = _switch(facts, "GGML_NATIVE") is not False
    amx = native and "amx_tile" in facts.flags
    with_tiles = amx or _switch(facts, "GGML_AMX_TILE") or _switch(facts, "GGML_CPU_ALL_VARIANTS")
    careful = KEEP_STORES if with_tiles and _forgets_tiles(facts) else ()
    ways = [Attempt("for this processor" if native else "as CMAKE_ARGS says", _arguments(facts, careful))]
    if amx:
        ways.append(Attempt("without AMX", _arguments(facts, WITHOUT_AMX)))
    if native and AVX512 in facts.flags:
        without = (*WITHOUT_AMX, *WITHOUT_AVX512) if amx else WITHOUT_AVX512
        ways.append(Attempt("without AVX-512", _arguments(facts, without)))
    last = _arguments(facts, (), NOT_NATIVE, *_missing(facts))
    return [*ways, Attempt("for any processor of its kind", last)]


def unused(facts: Facts, system_info: str) -> list[str]:
    """Features that a native build would use and the installed library lacks, by its system info."""
    has = set(re.findall(r"(\w+) = 1", system_info))
    return [theirs for ours, theirs in SPEED.items() if ours in facts.flags and theirs not in has]


def look(environ: Mapping[str, str]) -> Facts:
    """The facts of this machine, from the compiler's native target, else from the system."""
    cmake_args = environ.get("CMAKE_ARGS", "")
    compiler = _compiler(environ, cmake_args)
    macros = _macros(compiler)
    native = _macros([*compiler, "-march=native"])
    kind, version = _kind(macros)
    return Facts(
        architecture=platform.machine(),
        compiler=kind,
        version=version,
        flags=frozenset(name.strip("_").lower() for name in native) if native else _system_flags(),
        cmake_args=cmake_args,
        cflags=environ.get("CFLAGS", ""),
        cxxflags=environ.get("CXXFLAGS", ""),
    )


def _forgets_tiles(facts: Facts) -> bool:
    if facts.compiler != "gcc" or not facts.version:
        return False
    mended = MENDED_GCC.get(facts.version[0])
    return mended is not None and facts.version < mended


def _switch(facts: Facts, name: str) -> bool | None:
    """The user's value of a llama.cpp option; None if not set."""
    pattern = re.compile(rf"-D{name}(?::\w+)?=(.*)")
    values = [match[1] for word in shlex.split(facts.cmake_args) if (match := pattern.fullmatch(word))]
    return values[-1].upper() not in OFF if values else None


def _missing(facts: Facts) -> list[str]:
    if facts.architecture not in X86 or not facts.flags:
        return []
    return [f"-DGGML_{switch}=OFF" for flag, switch in GRANTED.items() if flag not in facts.flags]


def _arguments(facts: Facts, flags: Sequence[str], *more: str) -> str:
    """The user's CMAKE_ARGS with compiler flags and arguments appended; a later one wins."""
    theirs = shlex.split(facts.cmake_args)
    if not flags:
        return facts.cmake_args if not more else shlex.join([*theirs, *more])
    # With CMAKE_C_FLAGS, CMake does not read CFLAGS, so they are copied.
    languages = {"C": facts.cflags, "CXX": facts.cxxflags}
    for argument in theirs:
        if match := _C_FLAGS.fullmatch(argument):
            languages[match[1]] = match[2]
    kept = [argument for argument in theirs if not _C_FLAGS.fullmatch(argument)]
    own = [f"-DCMAKE_{name}_FLAGS={' '.join([*old.split(), *flags])}" for name, old in languages.items()]
    return shlex.join([*kept, *own, *more])


def _compiler(environ: Mapping[str, str], cmake_args: str) -> list[str]:
    """The C++ compiler that CMake will use: AMX's kernels are C++."""
    try:
        named = [match[1] for word in shlex.split(cmake_args) if (match := _COMPILER.fullmatch(word))]
        command = shlex.split(environ.get("CXX", ""))
    except ValueError:
        return []
    if named:
        return named[-1:]
    return command or [name for name in ("c++", "g++", "clang++") if shutil.which(name)][:1]


def _macros(compiler: Sequence[str]) -> dict[str, str]:
    """A compiler's predefined macros; empty if it cannot be run."""
    if not compiler:
        return {}
    output = _output([*compiler, "-dM", "-E", "-x", "c++", os.devnull])
    return {
        name: value for _, name, value in (line.split(" ", 2) for line in output.splitlines() if line.count(" ") > 1)
    }


def _kind(macros: Mapping[str, str]) -> tuple[str, tuple[int, ...]]:
    if "__clang__" in macros:
        return "clang", tuple(int(macros.get(f"__clang_{part}__", "0")) for part in ("major", "minor", "patchlevel"))
    if "__GNUC__" in macros:
        return "gcc", tuple(int(macros.get(f"__GNUC{part}__", "0")) for part in ("", "_MINOR", "_PATCHLEVEL"))
    return "", ()


def _system_flags() -> frozenset[str]:
    try:
        lines = _CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        output = _output(["sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"])
        return frozenset(output.lower().replace("avx1.0", "avx").replace("sse4.2", "sse4_2").split())
    named = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(named, "").split())


def _output(command: Sequence[str]) -> str:
    """A command's output; empty if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
