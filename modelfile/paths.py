"""Resolves paths in a Modelfile: one file, or the files of a folder that form a model or an adapter.

Functions read directories and raise ModelfileError, whose texts name the Modelfile's own paths.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from modelfile.parser import ModelfileError

_WEIGHTS = (
    ("model*.safetensors", "*/model*.safetensors"),
    ("consolidated*.safetensors",),
    ("adapter_model*.safetensors", "adapters*.safetensors"),
)
"""Patterns for safetensors; the first row with a match is taken."""
_COMPANIONS = ("*.json", "*/*.json", "chat_template.jinja", "tokenizer.model", "*/tokenizer.model", "vocab.txt")
_GGUF = ("*.gguf",)


def working_folder() -> Path | None:
    """The working directory; None if it has been deleted."""
    try:
        return Path.cwd()
    except OSError:
        return None


def is_absolute(text: str) -> bool:
    """Whether a path does not depend on the working directory."""
    return text.startswith(("/", "~"))


def expand(text: str, folder: Path | None) -> Path:
    """Expand `~` and resolve against a folder. Without a folder the path must be absolute."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        user = text.partition("/")[0].removeprefix("~")
        raise ModelfileError(f"failed to find user '{user}': user: unknown user {user}") from None
    if folder is not None:
        return folder / path
    if not is_absolute(text):
        raise ModelfileError(f"open {text}: the working directory has been deleted, so the path must be absolute")
    return path


def files_at(path: Path) -> dict[str, Path]:
    """The file, or the model files of the folder, by their names relative to it."""
    return {path.name: path} if path.is_file() else _in_folder(path)


def _in_folder(folder: Path) -> dict[str, Path]:
    for patterns in _WEIGHTS:
        if weights := _found(folder, patterns):
            return weights | _found(folder, _COMPANIONS)
    if weights := _found(folder, _GGUF):
        return weights
    raise ModelfileError("no Modelfile or safetensors files found")


def _found(folder: Path, patterns: Iterable[str]) -> dict[str, Path]:
    paths = (path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file())
    return {path.relative_to(folder).as_posix(): _inside(path, folder) for path in paths}


def _inside(path: Path, folder: Path) -> Path:
    """The file, unless a link leads out of the folder."""
    if path.resolve().is_relative_to(folder.resolve()):
        return path
    hint = "; copy the files out of the cache first" if ".cache" in path.parts else ""
    raise ModelfileError(f"insecure path: {path.relative_to(folder)}{hint}")
