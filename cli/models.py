"""The verbs for whole models: list, ps, stop, rm, cp, pull, push."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from cli import human
from cli.arguments import CommandError, require_name
from cli.client import MISSING, Client, ProcessResponse, ResponseError, connect
from cli.human import table
from cli.progress import display
from registry.sizes import short_size

_ID = 12  # digits of a digest that are shown


def list_models(prefix: str) -> None:
    """Print the stored models whose name starts with `prefix`, ignoring case."""
    with connect() as client:
        models = client.list().models
    now = datetime.now(UTC)
    rows = [
        (name, (model.digest or "")[:_ID], short_size(model.size or 0), human.moment(model.modified_at or now, now))
        for model in models
        if (name := model.model or "").lower().startswith(prefix.lower())
    ]
    print(table(("NAME", "ID", "SIZE", "MODIFIED"), rows), end="")


def ps() -> None:
    """Print the loaded models."""
    with connect() as client:
        models = client.ps().models
    now = datetime.now(UTC)
    rows = [_process(model, now) for model in models]
    print(table(("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"), rows), end="")


def _process(model: ProcessResponse.Model, now: datetime) -> tuple[str, ...]:
    size, expires = model.size or 0, model.expires_at or now
    until = human.moment(expires, now) if expires > now else "Stopping..."
    name, digest, context = model.model or "", (model.digest or "")[:_ID], str(model.context_length or 0)
    return name, digest, short_size(size), _processor(size, model.size_vram or 0), context, until


def _processor(size: int, on_gpu: int) -> str:
    if on_gpu == 0:
        return "100% CPU"
    if on_gpu >= size:
        return "100% GPU"
    share = round(100 * (size - on_gpu) / size)
    return f"{share}%/{100 - share}% CPU/GPU"


def stop(model: str) -> None:
    """Unload a model once it is idle."""
    require_name(model, 'couldn\'t find model "" to stop')
    with connect() as client:
        try:
            client.generate(model, keep_alive=0)
        except ResponseError as error:
            if error.status_code == MISSING:
                raise CommandError(f'couldn\'t find model "{model}" to stop') from None
            raise


def remove(models: list[str]) -> None:
    """Unload and delete models."""
    with connect() as client:
        for model in models:
            require_name(model)
            with suppress(ResponseError):  # a model that cannot be loaded can still be deleted
                client.generate(model, keep_alive=0)
            client.delete(model)
            print(f"deleted '{model}'")


def copy(source: str, destination: str) -> None:
    """Give a model a second name."""
    with connect() as client:
        client.copy(source, destination)
    print(f"copied '{source}' to '{destination}'")


def pull(model: str, *, insecure: bool) -> None:
    """Pull a model from its registry."""
    require_name(model, "invalid model name")
    with connect() as client:
        fetch(client, model, insecure=insecure)


def fetch(client: Client, model: str, *, insecure: bool) -> None:
    """Pull a model and show progress."""
    with display() as show:
        for step in client.pull(model, insecure=insecure, stream=True):
            show(step)


def push(model: str, *, insecure: bool) -> None:
    """Push a model to its registry."""
    require_name(model)
    with connect() as client, display() as show:
        for step in client.push(model, insecure=insecure, stream=True):
            show(step)
