"""`pronk create`: read a Modelfile, upload the files that it names, let the server create the model."""

from __future__ import annotations

import hashlib
import os.path
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cli.arguments import CommandError
from cli.client import Client, ResponseError, connect
from cli.progress import Show, display, step
from modelfile.parser import Command, Keyword, ModelfileError, decode, parse
from modelfile.paths import expand, files_at, working_folder
from modelfile.spec import ModelSpec, model_spec

DEFAULT = "Modelfile"


def create(name: str, file: str, quantize: str, draft_quantize: str) -> None:
    """Create a model from a Modelfile; without one, from the files in this folder. Raises CommandError."""
    commands, folder = _read(Path(file or DEFAULT), is_named=bool(file))
    request = {"model": name, "quantize": quantize, "draft_quantize": draft_quantize}
    with connect() as client:
        try:
            with display() as show:
                _make(client, request, commands, folder, show)
        except ModelfileError as error:
            raise CommandError(str(error)) from None
        except ResponseError as error:
            raise CommandError(_with_status(error)) from None


def _read(path: Path, *, is_named: bool) -> tuple[tuple[Command, ...], Path]:
    """The commands, and the folder that their relative paths start from. Raises CommandError.

    A model is made of this folder's files only where nobody has named a Modelfile.
    """
    if not path.is_absolute() and working_folder() is None:
        raise CommandError("the working directory has been deleted: name a Modelfile by an absolute path")
    if is_named and not path.exists():
        raise CommandError("specified Modelfile wasn't found")
    if not is_named and not path.is_file():
        return (Command(Keyword.FROM, "."),), Path()
    try:
        return parse(decode(path.read_bytes())), path.parent
    except ModelfileError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"open {path}: {error.strerror}") from None


def _make(client: Client, request: dict[str, Any], commands: tuple[Command, ...], folder: Path, show: Show) -> None:
    """Upload, create, and show progress. Raises ModelfileError or ResponseError."""
    show(step("gathering model components"))
    spec = model_spec(commands)
    for name in spec.deprecated:
        print(f"warning: parameter {name} is deprecated")
    components = find_components(spec, folder)
    request = {**request, **_texts(spec), "from": components.base}
    for key, files in components.files.items():
        request[key] = {name: upload(client, path, show) for name, path in files.items()}
    for reply in client.make({key: value for key, value in request.items() if value}):
        show(reply)


def _texts(spec: ModelSpec) -> dict[str, Any]:
    """The fields of the request that come straight from the Modelfile."""
    return {
        "template": spec.template,
        "system": spec.system,
        "license": spec.licenses,
        "parameters": spec.parameters,
        "messages": [{"role": message.role, "content": message.content} for message in spec.messages],
        "renderer": spec.renderer,
        "parser": spec.parser,
        "requires": spec.requires,
    }


def _with_status(error: ResponseError) -> str:
    """The error as Ollama's command prints it. An error inside a stream has no status."""
    if error.status < 0:
        return error.error
    try:
        reason = HTTPStatus(error.status).phrase
    except ValueError:
        reason = ""
    return f"{error.status} {reason}: {error.error}"


Files = dict[str, Path]


@dataclass(slots=True)
class Components:
    """The base model's name, empty without one; and the local files by name, for each key of the request."""

    base: str = ""
    files: dict[str, Files] = field(default_factory=dict)


def find_components(spec: ModelSpec, folder: Path) -> Components:
    """Find what FROM, ADAPTER and DRAFT name. A FROM that is no file names a model. Raises ModelfileError."""
    components = Components()
    sources = [(text, expand(text, folder)) for text in spec.sources]
    places = [path for _, path in sources if os.path.exists(path)]
    components.base = next((text for text, path in reversed(sources) if not os.path.exists(path)), "")
    if places:
        components.files["files"] = _merged(map(files_at, places))
    if spec.adapters:
        components.files["adapters"] = files_at(_existing(spec.adapters[-1], folder))
    if spec.drafts:
        draft = _existing(spec.drafts[-1], folder)
        if draft in places:
            raise ModelfileError(f"DRAFT must not reference the same local path as FROM: {draft.absolute()}")
        components.files["draft_files"] = files_at(draft)
    return components


def _existing(text: str, folder: Path) -> Path:
    path = expand(text, folder)
    if not os.path.exists(path):
        raise ModelfileError(f"stat {path.absolute()}: no such file or directory")
    return path


def _merged(groups: Iterable[Files]) -> Files:
    """The files of all groups, named relative to their common folder."""
    file_sets = list(groups)
    if len(file_sets) == 1:
        return file_sets[0]
    paths = [path.absolute() for files in file_sets for path in files.values()]
    root = os.path.commonpath([path.parent for path in paths])
    return {path.relative_to(root).as_posix(): path for path in paths}


_PIECE = 1 << 20


def upload(client: Client, path: Path, show: Show) -> str:
    """Upload a file unless the server has it; returns `sha256:HEX`. Raises CommandError if it does not exist."""
    try:
        digest = _digest(path)
        if not client.has_blob(digest):
            client.send_blob(digest, _pieces(path, show), path.stat().st_size)
    except FileNotFoundError as error:
        raise CommandError(f"open {path}: {error.strerror}") from None
    return digest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _pieces(path: Path, show: Show) -> Iterator[bytes]:
    """The file's bytes in pieces; reports progress as they are taken."""
    status, total, sent = f"copying {path.name}", path.stat().st_size, 0
    with path.open("rb") as file:
        while data := file.read(_PIECE):
            yield data
            sent += len(data)
            show(step(status, total, sent))
