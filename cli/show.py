"""`pronk show`: an overview of a model in sections, or one part verbatim."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from typing import Any

from cli.arguments import CommandError
from cli.client import Client, connect
from cli.human import Row, section
from cli.reply import Reply
from registry.gguf.types import parameter_size

PARTS = ("license", "modelfile", "parameters", "system", "template")
_LINES = 2  # lines of a system prompt or a license in the overview
_ITEMS = 3  # items shown of a long list in the details


def show(model: str, parts: list[str], *, verbose: bool) -> None:
    """Print the overview, or the one requested part. Raises CommandError for several parts."""
    if len(parts) > 1:
        names = [f"'--{name}'" for name in PARTS]
        raise CommandError(f"only one of {', '.join(names[:-1])}, or {names[-1]} can be specified")
    with connect() as client:
        if parts:
            print_part(client, model, parts[0])
        else:
            print_overview(client, model, verbose=verbose)


def print_part(client: Client, model: str, part: str) -> None:
    """Print one of PARTS."""
    text = client.describe(model).text(part)
    # System prompt and template are verbatim, without an added line end.
    sys.stdout.write(text if part in ("system", "template") else f"{text}\n")


def print_overview(client: Client, model: str, *, verbose: bool = False) -> None:
    """Print a model's sections; `verbose` adds metadata and tensors."""
    described = client.describe(model, verbose=verbose)
    sections = list(_sections(described))
    if verbose:
        sections += _details(described)
    sys.stdout.write("".join(section(title, rows) for title, rows in sections if rows))


def _sections(described: Reply) -> Iterable[tuple[str, list[Row]]]:
    yield "Model", list(_model(described))
    yield "Capabilities", [(name,) for name in described.texts("capabilities")]
    yield "Projector", list(_projector(described.object("projector_info").fields))
    yield "Parameters", [_parameter(line) for line in described.text("parameters").splitlines()]
    yield "System", _head(described.text("system"))
    yield "License", _head(described.text("license"))


def _model(described: Reply) -> Iterable[Row]:
    info, details = described.object("model_info").fields, described.object("details")
    architecture = str(info.get("general.architecture") or details.text("family"))
    rows = {
        "architecture": architecture,
        "parameters": details.text("parameter_size"),
        "context length": info.get(f"{architecture}.context_length"),
        "embedding length": info.get(f"{architecture}.embedding_length"),
        "quantization": details.text("quantization_level"),
    }
    return ((name, str(value)) for name, value in rows.items() if value)


def _projector(info: dict[str, Any]) -> Iterable[Row]:
    """What a model sees or hears with."""
    architecture = info.get("general.architecture")

    def value(name: str) -> Any:
        return next((v for sense in ("vision", "audio") if (v := info.get(f"{architecture}.{sense}.{name}"))), None)

    count = info.get("general.parameter_count")
    rows = {
        "architecture": architecture,
        "parameters": isinstance(count, int) and parameter_size(count),
        "embedding length": value("embedding_length"),
        "dimensions": value("projection_dim"),
    }
    return ((name, str(value)) for name, value in rows.items() if value)


def _parameter(line: str) -> Row:
    name, _, value = line.partition(" ")
    return name, value.strip()


def _head(text: str) -> list[Row]:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    shown = lines if len(lines) <= _LINES else [*lines[:_LINES], "..."]
    return [(line.strip(),) for line in shown]


def _details(described: Reply) -> list[tuple[str, list[Row]]]:
    metadata: list[Row] = [(key, _value(value)) for key, value in sorted(described.object("model_info").fields.items())]
    tensors: list[Row] = [
        (row.text("name"), row.text("type"), str(row.fields.get("shape"))) for row in described.objects("tensors")
    ]
    return [("Metadata", metadata), ("Tensors", tensors)]


def _value(value: Any) -> str:
    if not isinstance(value, list):
        return str(value).lower() if isinstance(value, bool) else str(value)
    shown = " ".join(shlex.quote(str(item)) for item in value[:_ITEMS])
    return f"[{shown} ... ({len(value)})]" if len(value) > _ITEMS else f"[{shown}]"
