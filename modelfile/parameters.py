"""The table of options: name, type, default, safe range, and whether a change reloads the model.

Options of requests and parameters of models are both parsed here, so that llama.cpp only gets values that it supports.
`check` refuses wrong types and numbers out of range; `usable` takes what can be used of parameters that are stored.
`python -m modelfile.parameters` prints the table for the documentation.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

MOST_STRINGS = 64
LONGEST_STRING = 256  # bytes of UTF-8
MOST_BIASES = 1024
Kind = Literal["integer", "float32", "boolean", "array", "map"]


class OptionError(ValueError):
    """An option has an unusable value; the text is for the user. `name` is the option, "" if none is to blame."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


def must(name: str, what: str) -> OptionError:
    """The error for an option that must be, or have, something else."""
    return OptionError(f'option "{name}" must {what}', name)


Open = Literal["", "below", "above", "both"]


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that an option may be, ends included. Beyond an `open` end others mean the same as that end."""

    minimum: float
    maximum: float
    open: Open = ""

    def admits(self, value: float) -> bool:
        """Whether a request may have this number."""
        too_small = value < self.minimum and self.open not in ("below", "both")
        too_large = value > self.maximum and self.open not in ("above", "both")
        return not too_small and not too_large

    def clamp(self, value: float) -> float:
        """The number, or the nearest end."""
        return min(max(value, self.minimum), self.maximum)

    def __str__(self) -> str:
        low, high = show_value(self.minimum), show_value(self.maximum)
        texts = {"": f"between {low} and {high}", "below": f"at most {high}", "above": f"at least {low}", "both": "any"}
        return texts[self.open]


def integer(name: str, value: Any, within: Range) -> int:
    """An integer; fractions are cut off. Raises OptionError."""
    return int(_in_range(name, int(_finite(name, value, "integer")), within))


def number(name: str, value: Any, within: Range) -> float:
    """A float. Raises OptionError."""
    return float(_in_range(name, _finite(name, value, "float32"), within))


def _finite(name: str, value: Any, kind: Kind) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise must(name, f"be of type {kind}")
    if isinstance(value, float) and not math.isfinite(value):
        raise must(name, "be a finite number")
    return value


def _in_range(name: str, value: float, within: Range) -> float:
    if not within.admits(value):
        raise must(name, f"be {within}")
    return within.clamp(value)  # before the conversion: a JSON integer may be too large for a float


def boolean(name: str, value: Any) -> bool:
    """A boolean. Raises OptionError for other types."""
    if not isinstance(value, bool):
        raise must(name, "be of type boolean")
    return value


def strings(name: str, value: Any) -> tuple[str, ...]:
    """A list of strings; a single string is a list of one. Empty strings are dropped: they would match everywhere."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise must(name, "be of type array")
    if not all(isinstance(item, str) for item in value):
        raise must(name, "be of an array of strings")
    if len(value) > MOST_STRINGS or any(len(item.encode(errors="replace")) > LONGEST_STRING for item in value):
        raise must(name, f"have at most {MOST_STRINGS} strings of {LONGEST_STRING} bytes")
    return tuple(item for item in value if item)


def token_biases(name: str, value: Any, within: Range) -> tuple[tuple[int, float], ...]:
    """(token id, logit bias) pairs from an object or a list of pairs; false is the minimum."""
    if isinstance(value, Mapping):
        pairs: Iterable[Any] = value.items()
    elif isinstance(value, list | tuple):
        pairs = value
    else:
        raise must(name, "be of type map")
    biases = {}
    for pair in pairs:
        token, bias = _pair(name, pair)
        biases[token] = within.minimum if bias is False else number(name, bias, within)
    if len(biases) > MOST_BIASES:
        raise must(name, f"have at most {MOST_BIASES} tokens")
    return tuple(biases.items())


def _pair(name: str, pair: Any) -> tuple[int, Any]:
    if isinstance(pair, list | tuple) and len(pair) == 2:
        token, bias = pair
        if isinstance(token, str) and token.isdecimal() and len(token) < 10:
            token = int(token)
        if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < 1 << 31:
            return token, bias
    raise must(name, "map token ids to numbers")


def show_value(value: Any) -> str:
    """A value for the documentation's table."""
    if value is None:
        return "automatic"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value == () else json.dumps(value).replace("|", "\\|")


__all__ = [
    "PARAMETERS",
    "OptionError",
    "Options",
    "Parameter",
    "check",
    "check_types",
    "markdown",
    "resolve_options",
    "usable",
]

T = TypeVar("T")

MOST_TOKENS = 1 << 24  # beyond any context; times bytes per token it is far from overflow
ALIASES = {"max_tokens": "num_predict"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option. `default` None means that the server chooses; `within` is the range of numbers.

    A new value of a `load_time` option may reload the model.
    """

    name: str
    type: Kind
    default: Any
    within: Range | None
    load_time: bool
    doc: str

    def parse(self, value: Any) -> Any:
        """The value in its Python type. Raises OptionError for a wrong type or a number out of range."""
        match self.type, self.within:
            case "integer", Range() as within:
                return integer(self.name, value, within)
            case "float32", Range() as within:
                return number(self.name, value, within)
            case "map", Range() as within:
                return token_biases(self.name, value, within)
            case "boolean", _:
                return boolean(self.name, value)
            case _:
                return strings(self.name, value)

    def nearest(self, value: Any) -> Any:
        """The value in its Python type; numbers out of range become the nearest end. Raises OptionError for others."""
        within = self.within and dataclasses.replace(self.within, open="both")
        return dataclasses.replace(self, within=within).parse(value)


def option(
    kind: Kind,
    default: T,
    doc: str,
    *,
    within: tuple[float, float] | None = None,
    open: Open = "",
    load_time: bool = False,
) -> T:
    """A field of `Options` with its row of the table. `within` and `open` are its range."""
    numbers = Range(*within, open) if within else None
    return field(default=default, metadata={"row": (kind, default, numbers, load_time, doc)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one request, complete and in range, from `resolve_options`. None: the server chooses."""

    num_ctx: int | None = option(
        "integer",
        None,
        "tokens that one conversation may use; from 4 to what the model was trained for; automatic: grows as needed",
        within=(0, MOST_TOKENS),
        open="above",
        load_time=True,
    )
    num_batch: int | None = option(
        "integer",
        None,
        "most prompt tokens evaluated in one step, of those that the server allows; 0: automatic",
        within=(0, 1 << 16),
        open="above",
    )
    num_gpu: int = option(
        "integer", -1, "layers on the GPU; below 0: as many as fit", within=(-1, 4096), open="both", load_time=True
    )
    main_gpu: int | None = option(
        "integer", None, "the GPU that does what is not split", within=(0, 63), open="below", load_time=True
    )
    use_mmap: bool | None = option("boolean", None, "map the file instead of reading it", load_time=True)
    num_thread: int = option(
        "integer", 0, "threads, of the cores there are; 0 and below: one for each core", within=(0, 512), open="both"
    )
    draft_num_predict: int | None = option(
        "integer",
        None,
        "most tokens that are drafted for one pass, see [architecture](architecture.md); 0: none",
        within=(0, 64),
        open="above",
    )
    num_keep: int = option(
        "integer",
        4,
        "tokens kept at the start when the context is shifted; below 0: the prompt",
        within=(-1, MOST_TOKENS),
        open="both",
    )
    num_predict: int = option(
        "integer",
        -1,
        "most tokens of an answer; 0 and below: no limit (also `max_tokens`)",
        within=(-1, MOST_TOKENS),
        open="both",
    )
    seed: int = option(
        "integer", -1, "the same seed gives the same text; below 0: random", within=(-1, (1 << 64) - 1), open="both"
    )
    stop: tuple[str, ...] = option("array", (), "texts that end the answer; a single text is accepted")
    temperature: float = option("float32", 0.8, "higher is more varied; 0: always the likeliest", within=(0, 100))
    top_k: int = option(
        "integer", 40, "choose among the k likeliest tokens; 0 and below: all", within=(0, MOST_TOKENS), open="both"
    )
    top_p: float = option(
        "float32", 0.9, "choose among the likeliest that add up to p; 1 and above: all", within=(0, 1), open="above"
    )
    min_p: float = option("float32", 0.0, "drop tokens below this share of the likeliest", within=(0, 1))
    typical_p: float = option("float32", 1.0, "locally typical sampling; 1 and above: off", within=(0, 1), open="above")
    top_n_sigma: float = option(
        "float32", -1.0, "keep logits within n standard deviations; 0 and below: off", within=(-1, 100), open="below"
    )
    dynatemp_range: float = option("float32", 0.0, "temperature varies by ± this much; 0: off", within=(0, 100))
    dynatemp_exponent: float = option("float32", 1.0, "how entropy maps to temperature", within=(0, 100))
    repeat_last_n: int = option(
        "integer",
        64,
        "tokens that penalties look back; 0: off, -1: the context",
        within=(-1, MOST_TOKENS),
        open="above",
    )
    repeat_penalty: float = option(
        "float32", 1.1, "penalty on repeated tokens; 1: off, the default on `/v1/*`", within=(0.01, 100)
    )
    presence_penalty: float = option("float32", 0.0, "penalty on tokens that occurred", within=(-100, 100))
    frequency_penalty: float = option("float32", 0.0, "penalty for each occurrence", within=(-100, 100))
    penalize_newline: bool = option("boolean", True, "penalties count line breaks too")
    logit_bias: tuple[tuple[int, float], ...] = option(
        "map", (), "token id to a number added to its logit; false: never choose it", within=(-1000, 1000), open="both"
    )
    mirostat: int = option(
        "integer",
        0,
        "0: off; 1: Mirostat, 2: Mirostat 2.0, in place of `top_k`, `top_p` and the like, DRY and XTC",
        within=(0, 2),
    )
    mirostat_tau: float = option("float32", 5.0, "Mirostat's target entropy", within=(0, 100))
    mirostat_eta: float = option("float32", 0.1, "Mirostat's learning rate", within=(0, 10))
    dry_multiplier: float = option(
        "float32", 0.0, "DRY: strength of the penalty on repeated runs; 0: off", within=(0, 100)
    )
    dry_base: float = option("float32", 1.75, "DRY: growth with the length of a run", within=(1, 100))
    dry_allowed_length: int = option(
        "integer", 2, "DRY: length that is still free", within=(0, MOST_TOKENS), open="above"
    )
    dry_penalty_last_n: int = option(
        "integer",
        -1,
        "DRY: tokens that it looks back; 0: off, -1: the context",
        within=(-1, MOST_TOKENS),
        open="above",
    )
    dry_sequence_breakers: tuple[str, ...] = option("array", ("\n", ":", '"', "*"), "DRY: texts that interrupt a run")
    xtc_probability: float = option(
        "float32", 0.0, "XTC: chance of dropping the likeliest tokens; 0: off", within=(0, 1)
    )
    xtc_threshold: float = option("float32", 0.1, "XTC: probability from which tokens may be dropped", within=(0, 1))

    @property
    def num_ctx_auto(self) -> bool:
        """Whether nobody asked for a context length."""
        return self.num_ctx is None


PARAMETERS: dict[str, Parameter] = {
    row.name: Parameter(row.name, *row.metadata["row"]) for row in dataclasses.fields(Options)
}


def resolve_options(stored: Mapping[str, Any], requested: Mapping[str, Any], **defaults: Any) -> Options:
    """Choose each option from the request, else the model's parameters, else `defaults`, else the table.

    Unknown names and nulls are ignored. Raises OptionError for a request's wrong type or number out of range; what
    cannot be used of the model's parameters is ignored.
    """
    settled = check(defaults) | usable(stored)[0] | check(requested)
    if settled.get("num_predict", -1) <= 0:
        settled["num_predict"] = -1
    return Options(**settled)


def check(options: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the known options of a map; aliases are resolved. Raises OptionError."""
    return {name: row.parse(value) for name, row, value in _known(options)}


def check_types(parameters: Mapping[str, Any]) -> None:
    """Check the known options of a map that is to be stored. Raises OptionError for a wrong type."""
    for _, row, value in _known(parameters):
        row.nearest(value)


def usable(stored: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What can be used of a model's parameters, and what is wrong with the others.

    A number out of range becomes the nearest end of its range; other unusable values are left out.
    """
    parsed, faults = {}, []
    for name, row, value in _known(stored):
        try:
            parsed[name] = row.parse(value)
        except OptionError as error:
            faults.append(str(error))
            with suppress(OptionError):
                parsed[name] = row.nearest(value)
    return parsed, faults


def _known(options: Mapping[str, Any]) -> Iterator[tuple[str, Parameter, Any]]:
    """Name, row and value of each known option; an alias counts if its name is not given."""
    for name, value in options.items():
        if value is None:
            continue
        if name in PARAMETERS:
            yield name, PARAMETERS[name], value
        elif (target := ALIASES.get(name)) and options.get(target) is None:
            yield target, dataclasses.replace(PARAMETERS[target], name=name), value


def markdown() -> str:
    """The table as Markdown."""
    head = ["| option | type | default | range | meaning |", "|---|---|---|---|---|"]
    return "\n".join(head + [_row(parameter) for parameter in PARAMETERS.values()])


def _row(row: Parameter) -> str:
    meaning = f"{row.doc} (load time)" if row.load_time else row.doc
    return f"| `{row.name}` | {row.type} | {show_value(row.default)} | {row.within or ''} | {meaning} |"


if __name__ == "__main__":
    print(markdown())
