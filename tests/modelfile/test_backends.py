"""Which modules a process loads. Where the installed library has its backends inside, a small one in C stands in for
one with modules; `make docker-test` proves the same with the real one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelfile import backends
from modelfile.backends import VARIANT, best_first, module_folder, variants
from tests.outside import needs
from tests.serving import ROOT

LIBRARY = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef void (*log_t)(int, const char *, void *);
static log_t logger;
static int count;
size_t ggml_backend_reg_count(void) { return count; }
void ggml_log_set(log_t log, void * data) { logger = log; }
void * ggml_backend_load(const char * path) {
    char line[4096];
    void * module = dlopen(path, RTLD_NOW);
    snprintf(line, sizeof line, module ? "loaded X backend from %s\n" : "failed to load %s\n", path);
    if (module) count++;
    if (logger) logger(2, line, NULL);
    return module;
}
void ggml_backend_load_all_from_path(const char * folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/libggml-cpu-best.so", folder);
    ggml_backend_load(path);
    if (getenv("GGML_BACKEND_PATH")) ggml_backend_load(getenv("GGML_BACKEND_PATH"));
}
"""
MODULE = r"""
#include <stdio.h>
int ggml_backend_score(void) { return SCORE; }
__attribute__((constructor)) static void loaded(void) { fprintf(stderr, "loaded %s\n", NAME); }
"""
LOADER = """
import ctypes, sys
from modelfile.backends import load
print(repr(load(ctypes.CDLL(sys.argv[1]))))
"""


def compile_library(path: Path, source: str, *options: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    [compiler] = needs("cc")
    command = [compiler, "-shared", "-fPIC", "-o", str(path), *options, "-x", "c", "-"]
    subprocess.run(command, input=source, text=True, check=True)


def compile_module(folder: Path, name: str, score: int = 1) -> None:
    """A module that tells of itself on standard error when it is loaded."""
    options = (f"-DSCORE={score}", f'-DNAME="{name}"')
    compile_library(folder / f"libggml-{name}.so", MODULE, *options)


def loaded(site: Path, **environ: str) -> tuple[str, list[str], str]:
    """What `load` returns in a process of its own, what modules tell of themselves there, and what else is said."""
    cwd = site / "cwd"
    cwd.mkdir(exist_ok=True)
    command = [sys.executable, "-c", LOADER, str(site / "llama_cpp/lib/libllama.so")]
    done = subprocess.run(
        command, cwd=cwd, env={"PYTHONPATH": str(ROOT), **environ}, capture_output=True, text=True, check=False
    )
    lines = done.stderr.splitlines()
    return (
        done.stdout.strip(),
        [line.removeprefix("loaded ") for line in lines if line.startswith("loaded ")],
        done.stderr,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages with a library whose modules are where a wheel puts them, and a hostile one elsewhere."""
    compile_library(tmp_path / "llama_cpp/lib/libllama.so", LIBRARY)
    for name, score in (("cpu-good", 3), ("cpu-best", 5), ("cpu-unfit", 0), ("cuda", 1)):
        compile_module(tmp_path / "bin", name, score)
    compile_module(tmp_path / "cwd", "cpu-planted", 99)
    return tmp_path


def test_the_best_variant_from_the_packages_own_folder(site: Path) -> None:
    assert loaded(site)[:2] == ("'best'", ["cpu-best"])


def test_a_variant_by_name_and_all_that_is_not_for_the_cpu(site: Path) -> None:
    assert loaded(site, **{VARIANT: "good"})[:2] == ("'good'", ["cuda", "cpu-good"])


def test_nothing_is_loaded_that_the_environment_names(site: Path) -> None:
    path = site / "cwd/libggml-cpu-planted.so"
    assert loaded(site, GGML_BACKEND_PATH=str(path))[1] == ["cpu-best"]


def test_a_variant_that_is_not_there(site: Path) -> None:
    _, modules, said = loaded(site, **{VARIANT: "nonesuch"})
    assert modules == ["cuda"]
    assert "NoBackend: llama.cpp has no backend for this processor in" in said
    assert "failed to load" in said


def test_no_modules_at_all(site: Path) -> None:
    """Then nobody may go on: the library itself would look for them in the working directory."""
    shutil.rmtree(site / "bin")
    _, modules, said = loaded(site)
    assert modules == []
    assert "NoBackend: there are no modules of llama.cpp beside " in said


def test_variants_by_score(site: Path) -> None:
    folder = site / "llama_cpp/lib"
    command = [sys.executable, "-P", "-m", backends.__name__, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=True)
    assert json.loads(done.stdout) == ["best", "good"] == best_first(folder)
    assert variants(site / "bin") == ["best", "good", "unfit"]


def test_where_modules_are(tmp_path: Path) -> None:
    library = tmp_path / "llama_cpp/lib"
    library.mkdir(parents=True)
    assert module_folder(library) is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/libggml-cpu-x64.so").touch()
    assert module_folder(library) == tmp_path / "bin"
    (library / "libggml-cpu.so").touch()
    assert module_folder(library) == library
    assert variants(library) == []


PLANTED = """
import sys
sys.path.insert(0, sys.argv[1])
from engine.runner.llamacpp import C
import modelfile.worker.llamacpp
C.llama_backend_init()
assert C.llama_print_system_info().startswith(b"CPU")
"""


def test_what_lies_in_the_working_directory_is_not_loaded(tmp_path: Path) -> None:
    """By the library that is installed, whichever way it is built."""
    compile_module(tmp_path, "cpu-planted", 1 << 30)
    compile_module(tmp_path, "cpu", 1 << 30)
    command = [sys.executable, "-P", "-c", PLANTED, str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "loaded cpu" not in done.stderr
