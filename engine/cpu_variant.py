"""Chooses the variant of llama.cpp's CPU backend: the best one that computes right numbers on this processor.

An installation for any machine, such as an image, has a variant for each generation of processors
(`modelfile.backends`). llama.cpp would take the best one that the processor supports, even if it is miscompiled. So the
first start runs the self-test on that variant, and on the next one if it fails. The choice is stored beside the models,
for this library and this processor.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from engine import selftest
from engine.selftest import Outcome, SelfTest
from engine.spawn import child_environment
from modelfile import backends
from modelfile.operating_system import cpu_info
from registry.logfields import fields

log = logging.getLogger(__name__)

CHOICES = "cpu-variants.json"
"""The file in the folder of the models: a JSON object from a digest of library and processor to a variant."""

_TIMEOUT = 60.0  # seconds for loading all variants once
_ENDED = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
_FEATURES = ("flags", "Features", "vendor_id", "cpu family", "model", "stepping", "CPU part")

Prove = Callable[[Mapping[str, str]], SelfTest]


def choose(environ: Mapping[str, str], models: Path) -> dict[str, str]:
    """The environment variables that make children use the chosen variant; the log names it.

    Empty if the library has no variants. `environ` is the server's environment, `models` the folder of the models.
    Blocking, for some seconds if no choice is stored.
    """
    library = backends.library_folder()
    folder = backends.module_folder(library) if library else None
    if library is None or folder is None or not backends.variants(folder):
        return {}
    if forced := environ.get(backends.VARIANT):
        log.info("CPU variant %s of llama.cpp, as %s says", forced, backends.VARIANT)
        return {}
    return _chosen(library, folder, child_environment(environ), Choices(models / CHOICES), _prove)


def available() -> list[str]:
    """The sorted names of the library's variants; empty if it has just one backend."""
    library = backends.library_folder()
    folder = backends.module_folder(library) if library else None
    return backends.variants(folder) if folder else []


class Choices:
    """Choices in a small JSON file. One that cannot be read counts as empty; one that cannot be written is logged."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> str | None:
        """The value of a key, None if there is none."""
        value = self._read().get(key)
        return value if isinstance(value, str) else None

    def put(self, key: str, value: str) -> None:
        """Store a value. The file is replaced as a whole."""
        text = json.dumps({**self._read(), key: value}, indent=1)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, prefix=".cpu-variants-", delete=False) as file:
                file.write(text)
                os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, self._path)
        except OSError as error:
            log.debug("CPU variant not remembered", extra=fields(reason=error.strerror))

    def _read(self) -> dict[str, object]:
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return values if isinstance(values, dict) else {}


def _chosen(library: Path, folder: Path, environ: dict[str, str], choices: Choices, prove: Prove) -> dict[str, str]:
    names = _ranking(library, environ)
    if not names:
        log.error("llama.cpp has no backend for this processor (%s) in %s", selftest.processor(), folder)
        return {}
    key = _key(library, folder)
    if (chosen := choices.get(key)) in names:
        log.info("CPU variant %s of llama.cpp, proved before on this processor", chosen)
        return {backends.VARIANT: str(chosen)}
    for name in names:
        test = prove({**environ, backends.VARIANT: name})
        if _is_at_fault(test):
            log.warning("CPU variant %s of llama.cpp is not used: %s", name, test.sentence)
            continue
        if test.ok:
            choices.put(key, name)
            log.info("CPU variant %s of llama.cpp: %s", name, test.sentence)
        else:
            log.warning("CPU variant %s of llama.cpp, not proved: %s", name, test.sentence)
        return {backends.VARIANT: name}
    log.error("no CPU variant of llama.cpp computes right numbers here; the simplest one is used, %s", names[-1])
    return {backends.VARIANT: names[-1]}


def _is_at_fault(test: SelfTest) -> bool:
    """Whether a test failed because of the variant, and was not just ended from outside, as when memory is short."""
    return test.outcome is Outcome.DIFFERS or (test.outcome is Outcome.DIED and not test.detail.startswith(_ENDED))


def _prove(environ: Mapping[str, str]) -> SelfTest:
    try:
        return selftest.run(environ=environ)
    except OSError as error:  # no room for its files
        return SelfTest(Outcome.FAILED, f"{error.strerror}")


def _ranking(library: Path, environ: Mapping[str, str]) -> list[str]:
    """The variants that this processor supports, the best one first. A child loads them: one may crash it."""
    command = [sys.executable, "-P", "-m", backends.__name__, str(library)]
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT, check=True
        )
        names = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning("CPU variants of llama.cpp cannot be ranked: %s", error)
        return []
    return [str(name) for name in names]


def _key(library: Path, folder: Path) -> str:
    """A digest of what computes: the library, its variants, and the processor."""
    digest = hashlib.sha256()
    names = ("libllama.*", "libggml.*", "libggml-base.*")
    paths = [path for name in names for path in library.glob(name)] + list(folder.glob("libggml-cpu*"))
    for path in sorted(path for path in paths if path.suffix in (".so", ".dylib")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    for line in _processor():
        digest.update(line.encode())
    return digest.hexdigest()


def _processor() -> Iterator[str]:
    """The lines of `/proc/cpuinfo` that name the instructions of the first core."""
    yield platform.machine()
    if not (cores := cpu_info()):
        yield platform.processor()
        return
    first = cores.split("\n\n")[0].splitlines()
    yield from (line for line in first if line.partition(":")[0].strip() in _FEATURES)
