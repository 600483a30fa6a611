"""The command `pronk`: its verbs and flags. Each verb's module is imported when the verb is called.

Nothing here imports the client at the top: `pronk serve` would wait for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

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
    without_values,
)
from cli.text import brief
from server.settings import Settings
from server.stopping import INTERRUPTED
from server.streams import open_standard_streams

NAME = "pronk"
_PATHS = ("file", "images")  # parameters that are paths of files

_ACCOUNT = "there is no account, and models run on this machine alone"
LEFT_OUT = {
    **dict.fromkeys(("signin", "signout", "login", "logout"), _ACCOUNT),
    "launch": "docs/agents.md tells how to set up coding agents",
}
"""Verbs of Ollama's command that are not here, and why."""


class Verb(click.Command):
    """A verb that counts its arguments itself."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line. Bytes that are not UTF-8 stay only in the path of a file. Raises CommandError."""
        flags = {name for param in self.params if getattr(param, "is_flag", False) for name in param.opts}
        rest = super().parse_args(ctx, without_values(args, flags))
        ctx.params = {name: value if name in _PATHS else _as_utf8(value) for name, value in ctx.params.items()}
        return rest


class Verbs(click.Group):
    """The verbs, in the order in which they are declared; reports an unknown one as Ollama's command does."""

    command_class = Verb

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, hidden ones too."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve the verb named by the first argument. Raises CommandError."""
        if args[0] in LEFT_OUT:
            raise CommandError(f'"{args[0]}" is left out on purpose: {LEFT_OUT[args[0]]}')
        if args[0] not in self.commands:
            raise CommandError(f'unknown command "{args[0]}" for "{ctx.command_path}"')
        return super().resolve_command(ctx, args)


def _as_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return as_utf8(value)
    return [as_utf8(word) for word in value] if isinstance(value, list | tuple) else value


@click.group(
    NAME,
    cls=Verbs,
    help="Large language models on your own machine, the way Ollama serves them.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--version", "-v", "show_version", is_flag=True, help="Show the version.")
@click.pass_context
def app(context: click.Context, show_version: bool) -> None:
    """Runs before the verb, or without one."""
    if show_version:
        from cli.version import print_versions

        print_versions(NAME)
        context.exit()
    if context.invoked_subcommand is None:
        print(context.get_help())


_insecure = click.option("--insecure", is_flag=True, help="Allow a registry without TLS.")
_keep_alive = click.option("--keepalive", "keep_alive", metavar="TIME", help="How long to keep it loaded, as 5m.")
_dimensions = click.option("--dimensions", type=int, metavar="N", help="Numbers of a vector, of models that embed.")
_truncate = click.option("--truncate", metavar="BOOL", help="Cut what is too long, or refuse it: true or false.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object, as the API has it.")
_prefix = click.argument("prefix", nargs=-1, metavar="[PREFIX]")
_model = click.argument("model", nargs=-1, metavar="MODEL")


@app.command("serve")
def serve() -> int:
    """Start the server."""
    from server.main import run

    return run(Settings.from_env())


app.add_command(click.Command("start", callback=serve.callback, help=serve.help, hidden=True))


@app.command("create")
@_model
@click.option("--file", "-f", default="", metavar="FILE", help="The Modelfile; by default `Modelfile`.")
@click.option("--quantize", "-q", default="", metavar="TYPE", help="Quantise to this type, such as q4_K_M.")
@click.option("--draft-quantize", default="", metavar="TYPE", help="Quantise the draft model to this type.")
def create(model: list[str], file: str, quantize: str, draft_quantize: str) -> None:
    """Make a model from a Modelfile."""
    [name] = exactly(1, model)
    from cli.create import create

    create(name, file, quantize, draft_quantize)


@app.command("run")
@click.argument("words", nargs=-1, metavar="MODEL [PROMPT]...")
@click.option("--think", metavar="LEVEL", help="Think first: true, false, low, medium, high or max.")
@click.option("--hidethinking", "hide_thinking", is_flag=True, help="Do not show what is thought.")
@click.option("--format", "format_", default="", help="Answer in this form: json, or a JSON schema.")
@_keep_alive
@click.option("--nowordwrap", "no_word_wrap", is_flag=True, help="Do not break lines between words.")
@click.option("--verbose", is_flag=True, help="Tell what the answer cost.")
@click.option("--image", "images", type=Path, multiple=True, metavar="FILE", help="A picture or a sound to ask about.")
@_dimensions
@_truncate
@_insecure
def run(
    words: list[str],
    think: str | None,
    hide_thinking: bool,
    format_: str,
    keep_alive: str | None,
    no_word_wrap: bool,
    verbose: bool,
    images: list[Path],
    dimensions: int | None,
    truncate: str | None,
    insecure: bool,
) -> None:
    """Talk to a model, or have it answer a prompt; of a model that only embeds, print the prompt's vector."""
    model, *prompt = at_least(1, words)
    from cli.answer import Look
    from cli.run import EmbedOptions, can_dim, run, terminal_width
    from cli.session import Session

    cut = None if truncate is None else parse_truncate(truncate)
    session = Session(
        model=model,
        think=None if think is None else parse_think(think),
        think_is_chosen=think is not None,
        truncate=cut,
        output_format=parse_format(format_),
        keep_alive=keep_alive,
        verbose=verbose,
        look=Look(
            width=terminal_width(),
            dim=can_dim(Settings.from_env().environ),
            wrap=not no_word_wrap,
            hide_thinking=hide_thinking,
        ),
    )
    embedding = EmbedOptions(dimensions=dimensions, truncate=cut, keep_alive=keep_alive)
    run(session, prompt, list(images), embedding, insecure=insecure)


@app.command("embed")
@click.argument("words", nargs=-1, metavar="MODEL [TEXT]...")
@_dimensions
@_truncate
@_keep_alive
def embed(words: list[str], dimensions: int | None, truncate: str | None, keep_alive: str | None) -> None:
    """Print the vectors of texts, or of the lines that are piped in."""
    model, *texts = at_least(1, words)
    from cli.run import EmbedOptions, embed

    cut = None if truncate is None else parse_truncate(truncate)
    embed(model, texts, EmbedOptions(dimensions=dimensions, truncate=cut, keep_alive=keep_alive))


@app.command("show")
@_model
@click.option("--license", "license_", is_flag=True, help="Only the license.")
@click.option("--modelfile", is_flag=True, help="Only the Modelfile.")
@click.option("--parameters", is_flag=True, help="Only the parameters.")
@click.option("--system", is_flag=True, help="Only the system prompt.")
@click.option("--template", is_flag=True, help="Only the template.")
@click.option("--verbose", "-v", is_flag=True, help="All metadata and tensors too.")
@_json
def show(
    model: list[str],
    license_: bool,
    modelfile: bool,
    parameters: bool,
    system: bool,
    template: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Show what a model is."""
    [name] = exactly(1, model)
    from cli.show import PARTS, show

    flags = (license_, modelfile, parameters, system, template)
    show(name, [part for part, flag in zip(PARTS, flags, strict=True) if flag], verbose=verbose, as_json=as_json)


@app.command("pull")
@_model
@click.option("--all", "every", is_flag=True, help="Fetch all stored models again, as far as there is something new.")
@_insecure
def pull(model: list[str], every: bool, insecure: bool) -> None:
    """Fetch a model."""
    names = exactly(0 if every else 1, model)
    from cli.models import pull, pull_all

    if every:
        pull_all(insecure=insecure)
    else:
        pull(names[0], insecure=insecure)


@app.command("push")
@_model
@_insecure
def push(model: list[str], insecure: bool) -> None:
    """Send a model to its registry."""
    [name] = exactly(1, model)
    from cli.models import push

    push(name, insecure=insecure)


@app.command("list")
@_prefix
@_json
def list_(prefix: list[str], as_json: bool) -> None:
    """List the models."""
    [start] = at_most(1, prefix) or [""]
    from cli.models import list_models

    list_models(start, as_json=as_json)


app.add_command(Verb("ls", callback=list_.callback, params=list_.params, help=list_.help, hidden=True))


@app.command("ps")
@_prefix
@_json
def ps(prefix: list[str], as_json: bool) -> None:
    """List the loaded models."""
    [start] = at_most(1, prefix) or [""]
    from cli.models import ps

    ps(start, as_json=as_json)


@app.command("plan")
@_model
@click.option("--ctx", type=int, metavar="N", help="Tokens of context.")
@click.option("--gpu-layers", type=int, metavar="N", help="Layers on GPUs.")
def plan(model: list[str], ctx: int | None, gpu_layers: int | None) -> None:
    """Tell where a model would go and what it would take."""
    [name] = exactly(1, model)
    from cli.plan import print_plan

    print_plan(name, {key: value for key, value in (("num_ctx", ctx), ("num_gpu", gpu_layers)) if value is not None})


@app.command("stop")
@_model
def stop(model: list[str]) -> None:
    """Unload a model."""
    [name] = exactly(1, model)
    from cli.models import stop

    stop(name)


@app.command("cp")
@click.argument("names", nargs=-1, metavar="SOURCE DESTINATION")
def cp(names: list[str]) -> None:
    """Give a model a second name."""
    source, destination = exactly(2, names)
    from cli.models import copy

    copy(source, destination)


@app.command("rm")
@click.argument("models", nargs=-1, metavar="MODEL...")
def rm(models: list[str]) -> None:
    """Delete models."""
    names = at_least(1, models)
    from cli.models import remove

    remove(names)


@app.command("doctor")
@click.option("--no-verify", is_flag=True, help="Do not compare the models with their digests.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(no_verify: bool, as_json: bool) -> int:
    """Look for what is wrong with the installation, the models and the machine."""
    from cli.doctor import doctor

    return doctor(Settings.from_env(), verify=not no_verify, as_json=as_json)


@app.group("keys", cls=Verbs, invoke_without_command=True)
@click.pass_context
def keys(context: click.Context) -> None:
    """API keys of the server on this machine: add, list, revoke."""
    if context.invoked_subcommand is None:
        print(context.get_help())


_LIMIT = click.IntRange(0, 1_000_000_000)  # what the file of keys may say


@keys.command("add")
@click.argument("names", nargs=-1, metavar="NAME")
@click.option(
    "--scope", "scopes", multiple=True, metavar="SCOPE", help="infer, read or manage; by default infer and read."
)
@click.option("--requests-per-minute", type=_LIMIT, default=0, metavar="N", help="Most requests a minute.")
@click.option("--concurrent", type=_LIMIT, default=0, metavar="N", help="Most requests at once.")
def keys_add(names: list[str], scopes: list[str], requests_per_minute: int, concurrent: int) -> None:
    """Make a key and print it, this once."""
    [name] = exactly(1, names)
    from cli.keys import add

    add(Settings.from_env(), name, scopes, requests_per_minute, concurrent)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def keys_list(as_json: bool) -> None:
    """List the keys, without their texts."""
    from cli.keys import list_keys

    list_keys(Settings.from_env(), as_json=as_json)


@keys.command("revoke")
@click.argument("names", nargs=-1, metavar="NAME")
def keys_revoke(names: list[str]) -> None:
    """Revoke a key, at once."""
    [name] = exactly(1, names)
    from cli.keys import revoke

    revoke(Settings.from_env(), name)


@app.command("completion")
@click.argument("shell", nargs=-1, metavar="SHELL")
def completion(shell: list[str]) -> None:
    """Print what bash, zsh or fish must read to complete verbs, flags and models."""
    [name] = exactly(1, shell)
    from cli.completion import print_script

    print_script(name)


@app.command("__complete", hidden=True)
@click.argument("words", nargs=-1)
def complete(words: list[str]) -> None:
    """Print what may stand in place of the last word; the first is the shell's name."""
    from cli.completion import print_candidates

    shell, *typed = at_least(1, words)
    print_candidates(app.commands, shell, typed)


@app.command("help")
@click.argument("verb", nargs=-1, metavar="[VERB]")
@click.pass_context
def help_(context: click.Context, verb: list[str]) -> None:
    """Show how to call a verb."""
    about = context.parent or context
    for name in verb:
        if not isinstance(about.command, click.Group):
            raise CommandError(f'"{about.command_path}" has no verbs of its own')
        _, command, _ = about.command.resolve_command(about, [name])
        if command is not None:
            about = click.Context(command, info_name=name, parent=about)
    print(about.get_help())


def main() -> None:
    """Run the command line and end the process with its exit code."""
    open_standard_streams()
    try:
        code = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output is gone
        _drop_output()
        code = 1
    except OSError as error:  # such as a full disk behind our output
        _drop_output()
        code = _fail(": ".join(str(part) for part in (error.filename, error.strerror or error) if part is not None))
    sys.exit(code)


def _run() -> int | None:
    """The exit code of the command line. Raises OSError if its output cannot be written."""
    try:
        code: int | None = app.main(with_values(sys.argv[1:]), prog_name=NAME, standalone_mode=False)
    except CommandError as error:
        code = _fail(str(error))
    except click.NoSuchOption as error:
        code = _fail(f"No such option: {error.option_name}")
    except click.ClickException as error:
        code = _fail(error.format_message().rstrip("."))
    except click.Abort:
        code = INTERRUPTED
    return code


def _drop_output() -> None:
    """The interpreter must not fail once more when it flushes the rest."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> int:
    print(f"Error: {brief(message)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
