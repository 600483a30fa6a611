"""`pronk show`: an overview of a model in sections, or one part verbatim."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cli.answer import AnswerPrinter, Look
from cli.arguments import CommandError
from cli.client import Client, connect
from cli.human import Row, section
from cli.input import PROMPT
from cli.models import print_json
from cli.reply import Reply
from cli.text import harmless
from modelfile.printer import parameter_commands
from registry.gguf.types import parameter_size

if TYPE_CHECKING:
    from cli.session import Session

PARTS = ("license", "modelfile", "parameters", "system", "template")
_LINES = 2  # lines of a system prompt or a license in the overview
_NAME_WIDTH = 30  # of a parameter, as the server writes it
_ITEMS = 3  # items shown of a long list in the details


def show(model: str, parts: list[str], *, verbose: bool, as_json: bool) -> None:
    """Print the overview, or the one requested part. Raises CommandError for several parts."""
    if as_json and parts:
        raise CommandError("--json shows everything: it goes with --verbose alone")
    if len(parts) > 1:
        names = [f"'--{name}'" for name in PARTS]
        raise CommandError(f"only one of {', '.join(names[:-1])}, or {names[-1]} can be specified")
    with connect() as client:
        if as_json:
            print_json(client.describe(model, verbose=verbose).fields)
        elif parts:
            print_part(client, model, parts[0])
        else:
            print_overview(client, model, verbose=verbose)


def print_part(client: Client, model: str, part: str, session: Session | None = None) -> None:
    """Print one of PARTS, with what was set in a session."""
    text = _with_settings(client.describe(model), session).text(part)
    if sys.stdout.isatty():
        text = harmless(text)
    # System prompt and template are verbatim, without an added line end.
    sys.stdout.write(text if part in ("system", "template") else f"{text}\n")


def print_overview(client: Client, model: str, *, verbose: bool = False, session: Session | None = None) -> None:
    """Print a model's sections, with what was set in a session; `verbose` adds metadata and tensors."""
    described = _with_settings(client.describe(model, verbose=verbose), session)
    sections = list(_sections(described))
    if verbose:
        sections += _details(described)
    sys.stdout.write("".join(section(title, rows) for title, rows in sections if rows))


def print_messages(described: Reply, look: Look) -> None:
    """Print the messages that a model begins with, as a conversation with it looks."""
    for message in described.objects("messages"):
        text = message.text("content")
        if message.text("role") == "user":
            print(f"{PROMPT}{harmless(text) if look.width else text}")
        elif message.text("role") == "assistant":
            AnswerPrinter(sys.stdout, look).follow([Reply({"response": text})])
            print("\n")


def _with_settings(described: Reply, session: Session | None) -> Reply:
    """The description, with the system prompt and the parameters that a session has in place of the model's own."""
    if session is None:
        return described
    fields = dict(described.fields)
    own = [line for line in described.text("parameters").splitlines() if line.split(" ")[0] not in session.options]
    changed = [
        f"{command.name:<{_NAME_WIDTH}} {json.dumps(command.value) if command.name == 'stop' else command.value}"
        for command in parameter_commands(session.options)
    ]
    fields["parameters"] = "\n".join([*own, *changed])
    fields["system"] = session.system or described.text("system")
    return Reply(fields)


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
