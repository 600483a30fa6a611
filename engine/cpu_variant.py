"""Which variant of llama.cpp's CPU backend is used: the best one that computes right numbers on this processor.

An installation that is to run anywhere, as that of an image, has a variant for each generation of processors
(`modelfile.backends`). llama.cpp takes the best one that the processor can run; what a compiler got wrong it does not
see. So the self-test proves that one at the first start, and the next one if it fails. What was found is remembered
beside the models, for this library and this processor.
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
from engine.loading.spawn import child_environment
from engine.selftest import Outcome, SelfTest
from modelfile import backends
from modelfile.operating_system import cpu_info

log = logging.getLogger(__name__)

MEMORY = "cpu-variants.json"
"""The file in the folder of the models: the variant by a digest of library and processor."""

_TIMEOUT = 60.0  # seconds for loading all variants once
_ENDED = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
_FEATURES = ("flags", "Features", "vendor_id", "cpu family", "model", "stepping", "CPU part")

Prove = Callable[[Mapping[str, str]], SelfTest]


def choose(environ: Mapping[str, str], models: Path) -> dict[str, str]:
    """What children need in their environment to use the variant that is chosen here; says in the log which one.

    Empty if the library has no variants. `environ` is the server's environment, `models` the folder of the models.
    Blocks: for some seconds where nothing is remembered.
    """
    library = backends.library_folder()
    folder = backends.module_folder(library) if library else None
    if library is None or folder is None or not backends.variants(folder):
        return {}
    if forced := environ.get(backends.VARIANT):
        log.info("CPU variant %s of llama.cpp, as %s says", forced, backends.VARIANT)
        return {}
    return _chosen(library, folder, child_environment(environ), Memory(models / MEMORY), _prove)


def available() -> list[str]:
    """The names of the variants that the library has, in order of the alphabet; none if it has no choice."""
    library = backends.library_folder()
    folder = backends.module_folder(library) if library else None
    return backends.variants(folder) if folder else []


class Memory:
    """A small file in JSON. One that cannot be read counts as empty, one that cannot be written is left alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> str | None:
        """What was put under a key."""
        value = self._read().get(key)
        return value if isinstance(value, str) else None

    def put(self, key: str, value: str) -> None:
        """Keep a value; the file is there as a whole or as it was."""
        text = json.dumps({**self._read(), key: value}, indent=1)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, prefix=".cpu-variants-", delete=False) as file:
                file.write(text)
                os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, self._path)
        except OSError as error:
            log.debug("%s is not written: %s", self._path, error.strerror)

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def _chosen(library: Path, folder: Path, environ: dict[str, str], memory: Memory, prove: Prove) -> dict[str, str]:
    names = _ranking(library, environ)
    if not names:
        log.error("llama.cpp has no backend for this processor (%s) in %s", selftest.processor(), folder)
        return {}
    key = _key(library, folder)
    if (known := memory.get(key)) in names:
        log.info("CPU variant %s of llama.cpp, proved before on this processor", known)
        return {backends.VARIANT: str(known)}
    for name in names:
        found = prove({**environ, backends.VARIANT: name})
        if _is_at_fault(found):
            log.warning("CPU variant %s of llama.cpp is not used: %s", name, found.sentence)
            continue
        if found.ok:
            memory.put(key, name)
            log.info("CPU variant %s of llama.cpp: %s", name, found.sentence)
        else:
            log.warning("CPU variant %s of llama.cpp, not proved: %s", name, found.sentence)
        return {backends.VARIANT: name}
    log.error("no CPU variant of llama.cpp computes right numbers here; the simplest one is used, %s", names[-1])
    return {backends.VARIANT: names[-1]}


def _is_at_fault(found: SelfTest) -> bool:
    """Whether a self-test failed by what it tested, and not because somebody ended it, as for want of memory."""
    return found.outcome is Outcome.DIFFERS or (found.outcome is Outcome.DIED and not found.detail.startswith(_ENDED))


def _prove(environ: Mapping[str, str]) -> SelfTest:
    try:
        return selftest.run(environ=environ)
    except OSError as error:  # no room for its files
        return SelfTest(Outcome.FAILED, f"{error.strerror}")


def _ranking(library: Path, environ: Mapping[str, str]) -> list[str]:
    """The variants that this processor can run, the best one first. A child looks at them: one may crash it."""
    command = [sys.executable, "-P", "-m", backends.__name__, str(library)]
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT, check=True
        )
        names = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning("the CPU variants of llama.cpp cannot be looked at: %s", error)
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
    """What says which instructions there are, of the first core."""
    yield platform.machine()
    if not (cores := cpu_info()):
        yield platform.processor()
        return
    first = cores.split("\n\n")[0].splitlines()
    yield from (line for line in first if line.partition(":")[0].strip() in _FEATURES)
