"""The verb create: read a Modelfile, upload the files that it names, have the server make the model."""

from __future__ import annotations

from http.client import responses
from pathlib import Path
from typing import Any

from cli.client import Client, ProgressResponse, ResponseError, connect
from cli.components import gather
from cli.errors import CommandError
from cli.progress import Show, display
from cli.upload import upload
from modelfile.encoding import decode
from modelfile.parser import Command, Keyword, ModelfileError, parse
from modelfile.paths import working_folder
from modelfile.spec import Recipe, recipe

DEFAULT = "Modelfile"


def create(name: str, file: str, quantize: str, draft_quantize: str) -> None:
    """Make a model of a Modelfile, or, where there is none, of what lies in this folder."""
    commands, folder = _read(Path(file or DEFAULT))
    request = {"model": name, "quantize": quantize, "draft_quantize": draft_quantize}
    with connect() as client:
        try:
            with display() as show:
                _make(client, request, commands, folder, show)
        except ModelfileError as error:
            raise CommandError(str(error)) from None
        except ResponseError as error:
            raise CommandError(_with_status(error)) from None


def _read(path: Path) -> tuple[tuple[Command, ...], Path]:
    """The commands, and the folder from which their paths are seen."""
    if not path.is_absolute() and working_folder() is None:
        raise CommandError("the working directory has been deleted: name a Modelfile by an absolute path")
    if not path.is_file():
        return (Command(Keyword.FROM, "."),), Path()
    try:
        return parse(decode(path.read_bytes())), path.parent
    except ModelfileError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"open {path}: {error.strerror}") from None


def _make(client: Client, request: dict[str, Any], commands: tuple[Command, ...], folder: Path, show: Show) -> None:
    """Do it and show how far it is. Raises ModelfileError or ResponseError."""
    show(ProgressResponse(status="gathering model components"))
    wanted = recipe(commands)
    for name in wanted.deprecated:
        print(f"warning: parameter {name} is deprecated")
    components = gather(wanted, folder)
    request = {**request, **_texts(wanted), "from": components.base}
    for key, files in components.files.items():
        request[key] = {name: upload(client, path, show) for name, path in files.items()}
    for step in client.make({key: value for key, value in request.items() if value}):
        show(step)


def _texts(wanted: Recipe) -> dict[str, Any]:
    """What the Modelfile says, as the request has it."""
    return {
        "template": wanted.template,
        "system": wanted.system,
        "license": wanted.licenses,
        "parameters": wanted.parameters,
        "messages": [{"role": message.role, "content": message.content} for message in wanted.messages],
        "renderer": wanted.renderer,
        "parser": wanted.parser,
        "requires": wanted.requires,
    }


def _with_status(error: ResponseError) -> str:
    """The error as Ollama's command tells it; one that came as a line of a stream has no status."""
    if error.status_code < 0:
        return error.error
    return f"{error.status_code} {responses.get(error.status_code, '')}: {error.error}"
