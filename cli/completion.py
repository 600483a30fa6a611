"""Completion: of the shell's command line (`pronk completion SHELL`), and of the commands of a session."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from cli.arguments import LEVELS, CommandError
from cli.client import Client, ResponseError
from cli.connection import Failure
from cli.reply import Foreign
from server.settings import Settings

if TYPE_CHECKING:
    import click

_SECONDS = 1.0  # a server that needs longer completes nothing
_LATEST = ":latest"
_TRUTH = ("true", "false")
_VALUES = {"--think": (*_TRUTH, *LEVELS), "--truncate": _TRUTH, "--format": ("json",)}
_STORED = {"run": 1, "embed": 1, "show": 1, "pull": 1, "push": 1, "list": 1, "ls": 1, "plan": 1, "cp": 2, "rm": 1000}
"""Verbs whose arguments, up to this many, are stored models."""
_LOADED = ("stop", "ps")
_BREAKS = ":="  # where bash begins a new word

SCRIPTS = {
    "bash": """\
# pronk completion bash > ~/.local/share/bash-completion/completions/pronk
_pronk() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <(pronk __complete bash -- "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -o default -F _pronk pronk
""",
    "zsh": """\
#compdef pronk
# pronk completion zsh > a folder of $fpath, as _pronk; or in ~/.zshrc after compinit: source <(pronk completion zsh)
_pronk() {
    local -a found
    found=("${(@f)$(pronk __complete zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then
        compadd -- "${found[@]}"
    else
        _files
    fi
}
if [[ "${funcstack[1]}" == _pronk ]]; then
    _pronk "$@"
else
    compdef _pronk pronk
fi
""",
    "fish": """\
# pronk completion fish > ~/.config/fish/completions/pronk.fish
function __pronk_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (pronk __complete fish -- $words[2..] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c pronk -f -a '(__pronk_complete)'
""",
}


def print_script(shell: str) -> None:
    """Print what a shell must read. Raises CommandError for another shell."""
    if shell not in SCRIPTS:
        raise CommandError(f'no completion for "{shell}": there is one for {", ".join(SCRIPTS)}')
    print(SCRIPTS[shell], end="")


def print_candidates(verbs: Mapping[str, click.Command], shell: str, words: list[str]) -> None:
    """Print what may stand in place of the last word, a candidate a line. bash gives the whole line as one word."""
    if shell == "bash":
        words = _split(words[0] if words else "")
    *before, last = words or [""]
    found = [word for word in _candidates(verbs, before, last) if word.startswith(last)]
    if shell == "bash":
        start = max(last.rfind(mark) for mark in _BREAKS) + 1
        found = [word[start:] for word in found]
    print("".join(f"{word}\n" for word in found), end="")


def _split(line: str) -> list[str]:
    """The words of a command line after the first one; the last is being typed."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quotation mark that is still open
        words = line.split()
    return [*words[1:], ""] if line[-1:].isspace() else words[1:]


def _candidates(verbs: Mapping[str, click.Command], before: list[str], last: str) -> Iterable[str]:
    if not before:
        return [*(name for name, verb in verbs.items() if not verb.hidden), "--help", "--version"]
    verb = before[0]
    if verb not in verbs:
        return []
    if verb == "help":
        return [name for name, verb in verbs.items() if not verb.hidden]
    if verb == "completion":
        return SCRIPTS
    if parts := getattr(verbs[verb], "commands", None):
        return parts if len(before) == 1 else []
    flags = {name: param for param in verbs[verb].params for name in param.opts if name.startswith("-")}
    name, equals, _ = last.partition("=")
    if equals:
        return [f"{name}={value}" for value in _VALUES.get(name, ())]
    if before[-1] in flags and before[-1] not in _VALUES and not getattr(flags[before[-1]], "is_flag", False):
        return []  # its value, which may be a file
    if before[-1] == "--format":
        return _VALUES["--format"]
    if last.startswith("-"):
        return [*flags, "--help"]
    return _models(verb, _arguments(before[1:], flags), last)


def _arguments(words: list[str], flags: dict[str, click.Parameter]) -> int:
    """How many of the words are neither flags nor their values."""
    count, is_value = 0, False
    for word in words:
        if not is_value and not word.startswith("-"):
            count += 1
        is_value = (
            word in flags and word not in ("--think", "--truncate") and not getattr(flags[word], "is_flag", False)
        )
    return count


def _models(verb: str, count: int, typed: str) -> list[str]:
    """The names of models for the next argument, asked of the server."""
    if verb in _LOADED and count == 0:
        return names(Client(Settings.from_env()), typed, loaded=True)
    if count < _STORED.get(verb, 0):
        return names(Client(Settings.from_env()), typed)
    return []


def names(client: Client, typed: str, *, loaded: bool = False) -> list[str]:
    """The names of models, without `:latest` unless a tag is being typed; none if the server does not answer soon."""
    try:
        models = client.loaded(_SECONDS) if loaded else client.models(_SECONDS)
        found = [model.text("name") for model in models]
    except (Failure, ResponseError, Foreign):
        return []
    found = [name for name in found if name.isprintable()]  # a line end would begin another candidate
    return found if ":" in typed else [name.removesuffix(_LATEST) for name in found]


class Words:
    """The words that may stand at the end of a line that begins with a slash command."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, text: str) -> list[str]:
        """The candidates for the last word, which is part of them."""
        head, _, last = text.rpartition(" ")
        return [word for word in self._next(head.split(), last) if word.startswith(last)]

    def _next(self, head: list[str], typed: str) -> Iterable[str]:
        from cli.commands import COMMANDS, SETTINGS, TOPICS
        from cli.show import PARTS
        from modelfile.parameters import PARAMETERS

        match head:
            case []:
                return COMMANDS
            case ["/set"]:
                return SETTINGS
            case ["/set", "parameter"]:
                return PARAMETERS
            case ["/set", ("think" | "format") as name]:
                return _VALUES[f"--{name}"]
            case ["/show"]:
                return ("info", *PARTS)
            case ["/load" | "/save" | "/list"]:
                return names(self._client, typed)
            case ["/?" | "/help"]:
                return TOPICS
        return []
