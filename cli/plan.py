"""`pronk plan`: where a model would go, and what it would take there."""

from __future__ import annotations

from typing import Any

from cli.arguments import CommandError, require_name
from cli.client import MISSING, ResponseError, connect
from cli.human import table
from registry.sizes import short_size

HEAD = ("DEVICE", "LAYERS", "WEIGHTS", "CACHE", "COMPUTE", "OTHER", "SIZE", "FREE")


def print_plan(model: str, options: dict[str, Any]) -> None:
    """Print what a load with these options would take. Raises CommandError."""
    require_name(model)
    with connect() as client:
        try:
            plan = client.plan(model, options)
        except ResponseError as error:
            if error.status_code == MISSING:
                raise CommandError(f'couldn\'t find model "{model}"') from None
            raise
    print(table(HEAD, [_row(device) for device in plan["devices"]]), end="")
    print()
    print("\n".join(_sentences(plan, options.get("num_ctx", 0))))


def _row(device: dict[str, Any]) -> tuple[str, ...]:
    sizes = (device[name] for name in ("weights", "cache", "compute", "other", "size", "free"))
    name = f"{device['id']} {device['name']}".strip()
    return name, str(device["layers"]), *(short_size(size) for size in sizes)


def _sentences(plan: dict[str, Any], num_ctx: int) -> list[str]:
    """`num_ctx`: the tokens of context that were asked for, or 0."""
    context = f"{plan['context_length']} tokens of context, {plan['parallel']} requests at once"
    if plan["loaded"]:
        return [f"It is loaded: {short_size(plan['size'])}, {context}."]
    fit = "It fits" if plan["fits"] else "It does not fit into what is free"
    lines = [f"{fit}: {short_size(plan['size'])}, {context}."]
    if num_ctx > plan["context_length"]:
        lines.append(f"A context of {num_ctx} tokens is more than it was trained for.")
    if 0 < plan["gpu_layers"] < plan["layers"]:
        lines.append(f"{plan['gpu_layers']} of {plan['layers']} layers are on GPUs.")
    if plan["cpu_experts"]:
        lines.append(f"The experts of {plan['cpu_experts']} layers are on the processor.")
    if plan["evicts"]:
        lines.append(f"To make room, {', '.join(plan['evicts'])} would be unloaded.")
    return lines
