"""The command `pronk`: its verbs and flags. Each verb's module is imported when the verb is called.

Nothing here imports the client at the top: `pronk serve` would wait for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli.arguments import (
    CommandError,
    as_utf8,
    at_least,
    at_most,
    exactly,
    parse_format,
    parse_think,
    parse_truncate,
    with_values,
)
from server.settings import Settings

NAME = "pronk"
_PATHS = ("file", "images")  # parameters that are paths of files


class Verbs(TyperGroup):
    """The verbs; reports an unknown one as Ollama's command does."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolve the verb named by the first argument. Raises CommandError."""
        if args[0] not in self.commands:
            raise CommandError(f'unknown command "{args[0]}" for "{NAME}"')
        return super().resolve_command(ctx, args)


class Verb(TyperCommand):
    """A verb that counts its arguments itself; its usage line shows their metavars."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line. Bytes that are not UTF-8 stay only in the path of a file."""
        rest: list[str] = super().parse_args(ctx, args)
        ctx.params = {name: value if name in _PATHS else _as_utf8(value) for name, value in ctx.params.items()}
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The parts of the usage line after the name."""
        arguments = (param for param in self.params if param.param_type_name == "argument")
        return ["[OPTIONS]", *(param.metavar for param in arguments if param.metavar)]


def _as_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return as_utf8(value)
    return [as_utf8(word) for word in value] if isinstance(value, list | tuple) else value


app = typer.Typer(
    name=NAME,
    cls=Verbs,
    help="Large language models on your own machine, the way Ollama serves them.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Insecure = Annotated[bool, typer.Option("--insecure", help="Allow a registry without TLS.")]
Model = Annotated[list[str] | None, typer.Argument(metavar="MODEL", hidden=True)]
KeepAlive = Annotated[str | None, typer.Option("--keepalive", help="How long to keep it loaded, as 5m.")]
Dimensions = Annotated[int | None, typer.Option(help="Numbers of a vector, of models that embed.")]
Truncate = Annotated[str | None, typer.Option(help="Cut a text that is too long to embed: true or false.")]
Models = Annotated[list[str] | None, typer.Argument(metavar="MODEL...", hidden=True)]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", "-v", help="Show the version.")] = False,
) -> None:
    """Runs before the verb, or without one."""
    if show_version:
        from importlib.metadata import version

        print(f"{NAME} version is {version(NAME)}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("serve", cls=Verb)
@app.command("start", cls=Verb, hidden=True)
def serve() -> int:
    """Start the server."""
    from server.main import run

    return run(Settings.from_env())


@app.command("create", cls=Verb)
def create(
    model: Model = None,
    file: Annotated[str, typer.Option("--file", "-f", help="The Modelfile; by default `Modelfile`.")] = "",
    quantize: Annotated[str, typer.Option("--quantize", "-q", help="Quantise to this type, such as q4_K_M.")] = "",
    draft_quantize: Annotated[str, typer.Option(help="Quantise the draft model to this type.")] = "",
) -> None:
    """Make a model from a Modelfile."""
    [name] = exactly(1, model or [])
    from cli.create import create

    create(name, file, quantize, draft_quantize)


@app.command("run", cls=Verb)
def run(
    words: Annotated[list[str] | None, typer.Argument(metavar="MODEL [PROMPT]...", hidden=True)] = None,
    think: Annotated[str | None, typer.Option(help="Think first: true, false, low, medium, high or max.")] = None,
    hide_thinking: Annotated[bool, typer.Option("--hidethinking", help="Do not show what is thought.")] = False,
    format_: Annotated[str, typer.Option("--format", help="Answer in this form: json, or a JSON schema.")] = "",
    keep_alive: KeepAlive = None,
    no_word_wrap: Annotated[bool, typer.Option("--nowordwrap", help="Do not break lines between words.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell what the answer cost.")] = False,
    images: Annotated[
        list[Path] | None, typer.Option("--image", metavar="FILE", help="A picture or a sound to ask about.")
    ] = None,
    dimensions: Dimensions = None,
    truncate: Truncate = None,
    insecure: Insecure = False,
) -> None:
    """Talk to a model, or have it answer a prompt; of a model that only embeds, print the prompt's vector."""
    model, *prompt = at_least(1, words or [])
    from cli.answer import Look
    from cli.run import EmbedOptions, run, terminal_width
    from cli.session import Session

    session = Session(
        model=model,
        think=None if think is None else parse_think(think),
        output_format=parse_format(format_),
        keep_alive=keep_alive,
        verbose=verbose,
        look=Look(width=terminal_width(), wrap=not no_word_wrap, hide_thinking=hide_thinking),
    )
    cut = None if truncate is None else parse_truncate(truncate)
    embedding = EmbedOptions(dimensions=dimensions, truncate=cut, keep_alive=keep_alive)
    run(session, prompt, images or [], embedding, insecure=insecure)


@app.command("embed", cls=Verb)
def embed(
    words: Annotated[list[str] | None, typer.Argument(metavar="MODEL [TEXT]...", hidden=True)] = None,
    dimensions: Dimensions = None,
    truncate: Truncate = None,
    keep_alive: KeepAlive = None,
) -> None:
    """Print the vectors of texts, or of the lines that are piped in."""
    model, *texts = at_least(1, words or [])
    from cli.run import EmbedOptions, embed

    cut = None if truncate is None else parse_truncate(truncate)
    embed(model, texts, EmbedOptions(dimensions=dimensions, truncate=cut, keep_alive=keep_alive))


@app.command("show", cls=Verb)
def show(
    model: Model = None,
    license_: Annotated[bool, typer.Option("--license", help="Only the license.")] = False,
    modelfile: Annotated[bool, typer.Option("--modelfile", help="Only the Modelfile.")] = False,
    parameters: Annotated[bool, typer.Option("--parameters", help="Only the parameters.")] = False,
    system: Annotated[bool, typer.Option("--system", help="Only the system prompt.")] = False,
    template: Annotated[bool, typer.Option("--template", help="Only the template.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="All metadata and tensors too.")] = False,
) -> None:
    """Show what a model is."""
    [name] = exactly(1, model or [])
    from cli.show import PARTS, show

    flags = (license_, modelfile, parameters, system, template)
    show(name, [part for part, flag in zip(PARTS, flags, strict=True) if flag], verbose=verbose)


@app.command("pull", cls=Verb)
def pull(model: Model = None, insecure: Insecure = False) -> None:
    """Fetch a model."""
    [name] = exactly(1, model or [])
    from cli.models import pull

    pull(name, insecure=insecure)


@app.command("push", cls=Verb)
def push(model: Model = None, insecure: Insecure = False) -> None:
    """Send a model to its registry."""
    [name] = exactly(1, model or [])
    from cli.models import push

    push(name, insecure=insecure)


@app.command("list", cls=Verb)
@app.command("ls", cls=Verb, hidden=True)
def list_(prefix: Annotated[list[str] | None, typer.Argument(metavar="[PREFIX]", hidden=True)] = None) -> None:
    """List the models."""
    [start] = at_most(1, prefix or []) or [""]
    from cli.models import list_models

    list_models(start)


@app.command("ps", cls=Verb)
def ps() -> None:
    """List the loaded models."""
    from cli.models import ps

    ps()


@app.command("plan", cls=Verb)
def plan(
    model: Model = None,
    ctx: Annotated[int | None, typer.Option("--ctx", metavar="N", help="tokens of context")] = None,
    gpu_layers: Annotated[int | None, typer.Option("--gpu-layers", metavar="N", help="layers on GPUs")] = None,
) -> None:
    """Tell where a model would go and what it would take."""
    [name] = exactly(1, model or [])
    from cli.plan import print_plan

    print_plan(name, {key: value for key, value in (("num_ctx", ctx), ("num_gpu", gpu_layers)) if value is not None})


@app.command("stop", cls=Verb)
def stop(model: Model = None) -> None:
    """Unload a model."""
    [name] = exactly(1, model or [])
    from cli.models import stop

    stop(name)


@app.command("cp", cls=Verb)
def cp(
    names: Annotated[list[str] | None, typer.Argument(metavar="SOURCE DESTINATION", hidden=True)] = None,
) -> None:
    """Give a model a second name."""
    source, destination = exactly(2, names or [])
    from cli.models import copy

    copy(source, destination)


@app.command("rm", cls=Verb)
def rm(models: Models = None) -> None:
    """Delete models."""
    names = at_least(1, models or [])
    from cli.models import remove

    remove(names)


@app.command("doctor", cls=Verb)
def doctor(
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not compare the models with their digests.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> int:
    """Look for what is wrong with the installation, the models and the machine."""
    from cli.doctor import doctor

    return doctor(Settings.from_env(), verify=not no_verify, as_json=as_json)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        code = app(with_values(sys.argv[1:]), prog_name=NAME, standalone_mode=False)
    except (CommandError, typer.TyperException) as error:
        print(f"Error: {error.format_message() if isinstance(error, typer.TyperException) else error}", file=sys.stderr)
        code = 1
    except BrokenPipeError:
        # The reader of our output is gone; the interpreter must not flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
