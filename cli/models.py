"""The verbs for whole models: list, ps, stop, rm, cp, pull, push."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from cli import human
from cli.arguments import CommandError, require_name
from cli.client import MISSING, Client, ResponseError, connect
from cli.human import table
from cli.progress import display
from cli.reply import Reply
from cli.text import harmless_json, one_line
from registry.sizes import short_size

_ID = 12  # digits of a digest that are shown


def list_models(prefix: str, *, as_json: bool) -> None:
    """Print the stored models whose name starts with `prefix`, ignoring case."""
    with connect() as client:
        models = [model for model in client.models() if starts_with(model, prefix)]
        if as_json:
            print_json({"models": [model.fields for model in models]})
        else:
            print_models(models)


def print_json(value: dict[str, Any]) -> None:
    """Print what the server's API says."""
    print(harmless_json(json.dumps(value, indent=2, ensure_ascii=False)))


def print_models(models: list[Reply], prefix: str = "") -> None:
    """Print a table of stored models."""
    now = datetime.now(UTC)
    rows = [_stored(model, now) for model in models if starts_with(model, prefix)]
    print(table(("NAME", "ID", "SIZE", "MODIFIED"), rows), end="")


def starts_with(model: Reply, prefix: str) -> bool:
    """Whether a model's name starts with `prefix`, ignoring case."""
    return model.text("name").lower().startswith(prefix.lower())


def _stored(model: Reply, now: datetime) -> tuple[str, ...]:
    modified = human.moment(model.time("modified_at") or now, now)
    return model.text("name"), model.text("digest")[:_ID], short_size(model.number("size")), modified


def ps(prefix: str, *, as_json: bool) -> None:
    """Print the loaded models whose name starts with `prefix`, ignoring case."""
    with connect() as client:
        models = [model for model in client.loaded() if starts_with(model, prefix)]
        if as_json:
            print_json({"models": [model.fields for model in models]})
            return
        now = datetime.now(UTC)
        rows = [_process(model, now) for model in models]
    print(table(("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"), rows), end="")


def _process(model: Reply, now: datetime) -> tuple[str, ...]:
    size, expires = model.number("size"), model.time("expires_at") or now
    until = human.moment(expires, now) if expires > now else "Stopping..."
    name, digest, context = model.text("name"), model.text("digest")[:_ID], str(model.number("context_length"))
    return name, digest, short_size(size), _processor(size, model.number("size_vram")), context, until


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
            client.unload(model)
        except ResponseError as error:
            if error.status == MISSING:
                raise CommandError(f'couldn\'t find model "{model}" to stop') from None
            raise


def remove(models: list[str]) -> None:
    """Unload and delete models."""
    with connect() as client:
        for model in models:
            require_name(model)
            with suppress(ResponseError):  # a model that cannot be loaded can still be deleted
                client.unload(model)
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


def pull_all(*, insecure: bool) -> None:
    """Pull every stored model again. Raises CommandError if some could not be, after all have been tried."""
    failed = []
    with connect() as client:
        names = [model.text("name") for model in client.models()]
        for name in names:
            print(one_line(name), file=sys.stderr)
            try:
                fetch(client, name, insecure=insecure)
            except ResponseError as error:
                print(one_line(f"{name}: {error.error}"), file=sys.stderr)
                failed.append(name)
    if failed:
        raise CommandError(f"{len(failed)} of {len(names)} models could not be pulled: {', '.join(failed)}")


def fetch(client: Client, model: str, *, insecure: bool) -> None:
    """Pull a model and show progress."""
    with display() as show:
        for step in client.pull(model, insecure=insecure):
            show(step)


def push(model: str, *, insecure: bool) -> None:
    """Push a model to its registry."""
    require_name(model)
    with connect() as client, display() as show:
        for step in client.push(model, insecure=insecure):
            show(step)
