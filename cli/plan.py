"""`pronk plan`: where a model would go, and what it would take there."""

from __future__ import annotations

import sys
from typing import Any

from cli.arguments import CommandError, require_name
from cli.client import MISSING, ResponseError, connect
from cli.human import table
from cli.reply import Foreign
from cli.text import one_line
from registry.sizes import short_size

HEAD = ("DEVICE", "LAYERS", "WEIGHTS", "CACHE", "COMPUTE", "OTHER", "SIZE", "PROMPT CACHE", "FREE")
FAILURE = 1  # exit code


def print_plan(model: str, options: dict[str, Any]) -> None:
    """Print what a load with these options would take. Raises CommandError, and SystemExit where it does not fit."""
    require_name(model)
    with connect() as client:
        try:
            plan = client.plan(model, options).fields
            text = _text(plan, options)
        except (KeyError, TypeError, ValueError):
            raise Foreign from None
        except ResponseError as error:
            if error.status == MISSING:
                raise CommandError(f'couldn\'t find model "{model}"') from None
            raise
    print(text)
    if not plan["fits"]:
        sys.exit(FAILURE)


def _text(plan: dict[str, Any], options: dict[str, Any]) -> str:
    lines = "\n".join(map(one_line, _sentences(plan, options)))
    return f"{table(HEAD, [_row(device) for device in plan['devices']])}\n{lines}"


def _row(device: dict[str, Any]) -> tuple[str, ...]:
    sizes = [short_size(device[name]) for name in ("weights", "cache", "compute", "other", "size")]
    name = f"{device['id']} {device['name']}".strip()
    prompts = f"up to {short_size(device['prompt_cache'])}" if device["prompt_cache"] else "-"
    return name, str(device["layers"]), *sizes, prompts, short_size(device["free"])


def _sentences(plan: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """`options`: those that were asked for."""
    asked, context, parallel = plan["context_requested"] or 0, plan["context_length"], plan["parallel"]
    longer = f"A context of {asked} tokens is more than it was trained for: it gets {context}."
    lines = [longer] if asked > context else []
    requests = f"{parallel} request{'s' if parallel != 1 else ''} at once"
    lines.append(f"{_fit(plan)}: {short_size(plan['size'])}, {context} tokens of context, {requests}.")
    if (full := plan["cells"] // context) < parallel:
        lines.append(f"The cache has room for {full} of them with a full context; beyond that the latest ones wait.")
    if not plan["gpus"] and options.get("num_gpu", 0) > 0:
        lines.append("There is no GPU: all layers are on the processor.")
    if plan["grows"]:
        lines.append("For that its context grows; the weights are not read again.")
    return lines if plan["loaded"] else lines + _changes(plan)


def _fit(plan: dict[str, Any]) -> str:
    if plan["loaded"]:
        return "It is loaded"
    if plan["refused"]:
        return "It does not fit into this machine's memory and would be refused"
    return "It fits" if plan["fits"] else "It does not fit into what is free, and would be slow"


def _changes(plan: dict[str, Any]) -> list[str]:
    """Where parts of it go, and what goes for it."""
    lines = []
    if 0 < plan["gpu_layers"] < plan["layers"]:
        lines.append(f"{plan['gpu_layers']} of {plan['layers']} layers are on GPUs.")
    if plan["cpu_experts"]:
        lines.append(f"The experts of {plan['cpu_experts']} layers are on the processor.")
    if plan["evicts"]:
        lines.append(f"To make room, {', '.join(plan['evicts'])} would be unloaded.")
    if plan["reloads"]:
        lines.append(f"{plan['reloads']} is loaded with other options: it would be loaded anew.")
    return lines
