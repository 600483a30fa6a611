"""The table of options: name, type, default, safe range, and whether a change reloads the model.

Options of requests and parameters of models are both parsed here. A wrong type is refused, a number out of range is
clamped, so that llama.cpp only gets values that it supports. `python -m modelfile.parameters` prints the table for the
documentation.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

MOST_STRINGS = 64
LONGEST_STRING = 256  # bytes of UTF-8
MOST_BIASES = 1024


class OptionError(ValueError):
    """An option has an unusable value; the text is for the user."""


def integer(name: str, value: Any, minimum: int, maximum: int) -> int:
    """An integer: fractions are cut off, values out of range clamped. Raises OptionError for other types."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f'option "{name}" must be of type integer')
    if isinstance(value, float) and not math.isfinite(value):
        return maximum if value > 0 else minimum  # NaN compares false, so it becomes the minimum
    return min(max(int(value), minimum), maximum)


def number(name: str, value: Any, minimum: float, maximum: float, default: float) -> float:
    """A float: values out of range are clamped, NaN becomes the default. Raises OptionError for other types."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f'option "{name}" must be of type float32')
    # Clamped before the conversion: a JSON integer may be too large for a float.
    return default if value != value else float(min(max(value, minimum), maximum))


def boolean(name: str, value: Any) -> bool:
    """A boolean. Raises OptionError for other types."""
    if not isinstance(value, bool):
        raise OptionError(f'option "{name}" must be of type boolean')
    return value


def strings(name: str, value: Any) -> tuple[str, ...]:
    """A list of strings; a single string is a list of one. Empty strings are dropped: they would match everywhere."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise OptionError(f'option "{name}" must be of type array')
    if not all(isinstance(item, str) for item in value):
        raise OptionError(f'option "{name}" must be of an array of strings')
    if len(value) > MOST_STRINGS or any(len(item.encode(errors="replace")) > LONGEST_STRING for item in value):
        raise OptionError(f'option "{name}" must have at most {MOST_STRINGS} strings of {LONGEST_STRING} bytes')
    return tuple(item for item in value if item)


def token_biases(name: str, value: Any, minimum: float, maximum: float) -> tuple[tuple[int, float], ...]:
    """(token id, logit bias) pairs from an object or a list of pairs; false is the minimum."""
    if isinstance(value, Mapping):
        pairs: Iterable[Any] = value.items()
    elif isinstance(value, list | tuple):
        pairs = value
    else:
        raise OptionError(f'option "{name}" must be of type map')
    biases = {}
    for pair in pairs:
        token, bias = _pair(name, pair)
        biases[token] = minimum if bias is False else number(name, bias, minimum, maximum, 0.0)
    if len(biases) > MOST_BIASES:
        raise OptionError(f'option "{name}" must have at most {MOST_BIASES} tokens')
    return tuple(biases.items())


def _pair(name: str, pair: Any) -> tuple[int, Any]:
    if isinstance(pair, list | tuple) and len(pair) == 2:
        token, bias = pair
        if isinstance(token, str) and token.isdecimal() and len(token) < 10:
            token = int(token)
        if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < 1 << 31:
            return token, bias
    raise OptionError(f'option "{name}" must map token ids to numbers')


def show_value(value: Any) -> str:
    """A value for the documentation's table."""
    if value is None:
        return "automatic"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value == () else json.dumps(value).replace("|", "\\|")


__all__ = ["PARAMETERS", "OptionError", "Options", "Parameter", "check", "markdown", "resolve_options"]

T = TypeVar("T")
Kind = Literal["integer", "float32", "boolean", "array", "map"]

MOST_TOKENS = 1 << 24  # beyond any context; times bytes per token it is far from overflow
ALIASES = {"max_tokens": "num_predict"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option. `default` None means that the server chooses; numbers are clamped to [minimum, maximum].

    A new value of a `load_time` option may reload the model.
    """

    name: str
    type: Kind
    default: Any
    minimum: float | None
    maximum: float | None
    load_time: bool
    doc: str

    def parse(self, value: Any) -> Any:
        """The value in its Python type and range. Raises OptionError if the JSON type is wrong."""
        match self.type:
            case "integer":
                return integer(self.name, value, int(self.minimum or 0), int(self.maximum or 0))
            case "float32":
                return number(self.name, value, self.minimum or 0.0, self.maximum or 0.0, self.default)
            case "boolean":
                return boolean(self.name, value)
            case "array":
                return strings(self.name, value)
            case "map":
                return token_biases(self.name, value, self.minimum or 0.0, self.maximum or 0.0)


def option(
    kind: Kind,
    default: T,
    doc: str,
    *,
    within: tuple[float, float] | None = None,
    load_time: bool = False,
) -> T:
    """A field of `Options` with its row of the table. `within` is the safe range, ends included."""
    low, high = within or (None, None)
    return field(default=default, metadata={"row": (kind, default, low, high, load_time, doc)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one request, complete and in range, from `resolve_options`. None: the server chooses."""

    num_ctx: int | None = option(
        "integer", None, "tokens that one conversation may use", within=(1, MOST_TOKENS), load_time=True
    )
    num_batch: int | None = option("integer", None, "most prompt tokens evaluated in one step", within=(1, 1 << 16))
    num_gpu: int = option("integer", -1, "layers on the GPU; -1: as many as fit", within=(-1, 4096), load_time=True)
    main_gpu: int | None = option(
        "integer", None, "the GPU that does what is not split", within=(0, 63), load_time=True
    )
    use_mmap: bool | None = option("boolean", None, "map the file instead of reading it", load_time=True)
    num_thread: int = option("integer", 0, "threads, of the cores there are; 0: one for each core", within=(0, 512))
    draft_num_predict: int | None = option(
        "integer", None, "tokens that a draft model is ahead; not used yet", within=(0, 64), load_time=True
    )
    num_keep: int = option(
        "integer", 4, "tokens kept at the start when the context is shifted; -1: the prompt", within=(-1, MOST_TOKENS)
    )
    num_predict: int = option(
        "integer", -1, "most tokens of an answer; 0 and below: no limit (also `max_tokens`)", within=(-1, MOST_TOKENS)
    )
    seed: int = option("integer", -1, "the same seed gives the same text; -1: random", within=(-1, (1 << 63) - 1))
    stop: tuple[str, ...] = option("array", (), "texts that end the answer; a single text is accepted")
    temperature: float = option("float32", 0.8, "higher is more varied; 0: always the likeliest", within=(0, 100))
    top_k: int = option("integer", 40, "choose among the k likeliest tokens; 0: all", within=(0, MOST_TOKENS))
    top_p: float = option("float32", 0.9, "choose among the likeliest that add up to p", within=(0, 1))
    min_p: float = option("float32", 0.0, "drop tokens below this share of the likeliest", within=(0, 1))
    typical_p: float = option("float32", 1.0, "locally typical sampling; 1: off", within=(0, 1))
    top_n_sigma: float = option("float32", -1.0, "keep logits within n standard deviations; -1: off", within=(-1, 100))
    dynatemp_range: float = option("float32", 0.0, "temperature varies by ± this much; 0: off", within=(0, 100))
    dynatemp_exponent: float = option("float32", 1.0, "how entropy maps to temperature", within=(0, 100))
    repeat_last_n: int = option(
        "integer", 64, "tokens that penalties look back; 0: off, -1: the context", within=(-1, MOST_TOKENS)
    )
    repeat_penalty: float = option("float32", 1.1, "penalty on repeated tokens; 1: off", within=(0.01, 100))
    presence_penalty: float = option("float32", 0.0, "penalty on tokens that occurred", within=(-100, 100))
    frequency_penalty: float = option("float32", 0.0, "penalty for each occurrence", within=(-100, 100))
    penalize_newline: bool = option("boolean", True, "penalties count line breaks too")
    logit_bias: tuple[tuple[int, float], ...] = option(
        "map", (), "token id to a number added to its logit; false: never choose it", within=(-1000, 1000)
    )
    mirostat: int = option("integer", 0, "0: off, 1: Mirostat, 2: Mirostat 2.0", within=(0, 2))
    mirostat_tau: float = option("float32", 5.0, "Mirostat's target entropy", within=(0, 100))
    mirostat_eta: float = option("float32", 0.1, "Mirostat's learning rate", within=(0, 10))
    dry_multiplier: float = option(
        "float32", 0.0, "DRY: strength of the penalty on repeated runs; 0: off", within=(0, 100)
    )
    dry_base: float = option("float32", 1.75, "DRY: growth with the length of a run", within=(1, 100))
    dry_allowed_length: int = option("integer", 2, "DRY: length that is still free", within=(0, MOST_TOKENS))
    dry_penalty_last_n: int = option(
        "integer", -1, "DRY: tokens that it looks back; 0: off, -1: the context", within=(-1, MOST_TOKENS)
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

    Unknown names and nulls are ignored. Raises OptionError for a wrong type.
    """
    settled = check(defaults) | check(stored) | check(requested)
    if settled.get("num_predict", -1) <= 0:
        settled["num_predict"] = -1
    return Options(**settled)


def check(options: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the known options of a map; aliases are resolved. Raises OptionError for a wrong type."""
    parsed = {
        name: PARAMETERS[name].parse(value)
        for name, value in options.items()
        if name in PARAMETERS and value is not None
    }
    for alias, name in ALIASES.items():
        if (value := options.get(alias)) is not None:
            parsed.setdefault(name, dataclasses.replace(PARAMETERS[name], name=alias).parse(value))
    return parsed


def markdown() -> str:
    """The table as Markdown."""
    head = ["| option | type | default | range | meaning |", "|---|---|---|---|---|"]
    return "\n".join(head + [_row(parameter) for parameter in PARAMETERS.values()])


def _row(row: Parameter) -> str:
    shown = "" if row.minimum is None else f"{show_value(row.minimum)} to {show_value(row.maximum)}"
    meaning = f"{row.doc} (load time)" if row.load_time else row.doc
    return f"| `{row.name}` | {row.type} | {show_value(row.default)} | {shown} | {meaning} |"


if __name__ == "__main__":
    print(markdown())
