"""Commands to text and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfile.parser import ROLES, Command, Keyword, ModelfileError, parse
from modelfile.printer import parameter_commands, print_modelfile
from modelfile.spec import model_spec

PLAIN = [keyword for keyword in Keyword if keyword not in (Keyword.PARAMETER, Keyword.MESSAGE)]

pieces = st.sampled_from(['"', '""', '"""', "\n", "\r", "\r\n", " ", "\t", "#", "a", "é", "\u00a0", "\u200d", "FROM x"])
values = st.lists(pieces, max_size=8).map("".join)
lines = st.lists(
    st.sampled_from(
        ["FROM ", "SYSTEM ", "PARAMETER top_k ", "MESSAGE user ", "# ", "\n", '"', '"""', "a", " ", "\x01"]
    ),
    max_size=14,
).map("".join)


def readable(value: str) -> bool:
    """Whether a value has a form that reads back: no line but the last ends with three quotes."""
    return not any(line.rstrip().endswith('"""') for line in value.replace("\r", "\n").split("\n")[:-1])


def commands_of(value: str) -> list[Command]:
    """One command of each kind with the same value."""
    named = [Command(Keyword.PARAMETER, value, "stop"), *(Command(Keyword.MESSAGE, value, role) for role in ROLES)]
    return [*(Command(keyword, value) for keyword in PLAIN), *named]


@given(values.filter(readable))
def test_parsing_what_was_printed_gives_the_same_commands(value: str) -> None:
    assert list(parse(print_modelfile(commands_of(value)))) == commands_of(value)


@given(lines)
def test_printing_what_was_parsed_keeps_every_command(text: str) -> None:
    try:
        commands = parse(text)
    except ModelfileError:
        return
    assert parse(print_modelfile(commands)) == commands


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("plain", "SYSTEM plain"),
        ('say "hi"', 'SYSTEM say "hi"'),
        ("", "SYSTEM "),
        ("### User: ", 'SYSTEM "### User: "'),
        ("two\nlines", 'SYSTEM "two\nlines"'),
        ('two "x"\nlines', 'SYSTEM """two "x"\nlines"""'),
        ('"', 'SYSTEM """""""'),
        ("\ttab", 'SYSTEM "\ttab"'),
        ("carriage\rreturn", 'SYSTEM "carriage\rreturn"'),
        ("\u3000wide", 'SYSTEM "\u3000wide"'),
    ],
)
def test_quotes(value: str, line: str) -> None:
    assert print_modelfile([Command(Keyword.SYSTEM, value)]) == line + "\n"


def test_names_and_roles_come_before_the_value() -> None:
    commands = [Command(Keyword.FROM, "/models/a b.gguf"), Command(Keyword.MESSAGE, "hi ", "user")]
    assert print_modelfile(commands) == 'FROM /models/a b.gguf\nMESSAGE user "hi "\n'


def test_parameters_in_order_of_their_names() -> None:
    stored = {
        "top_p": 0.7,
        "stop": ["a", " b"],
        "num_ctx": 1048576,
        "seed": 2.0,
        "min_p": 1e-05,
        "use_mmap": True,
        "other": None,
        "logit_bias": {"5": 1.5},
    }
    assert print_modelfile(parameter_commands(stored)) == (
        'PARAMETER logit_bias {"5":1.5}\n'
        "PARAMETER min_p 1e-05\n"
        "PARAMETER num_ctx 1048576\n"
        "PARAMETER other <nil>\n"
        "PARAMETER seed 2\n"
        "PARAMETER stop a\n"
        'PARAMETER stop " b"\n'
        "PARAMETER top_p 0.7\n"
        "PARAMETER use_mmap true\n"
    )


parameters = st.fixed_dictionaries(
    {},
    optional={
        "num_ctx": st.integers(-(2**63), 2**63 - 1),
        "temperature": st.floats(width=32, allow_nan=False, allow_infinity=False),
        "use_mmap": st.booleans(),
        "stop": st.lists(values.filter(readable), min_size=1, max_size=3),
        "logit_bias": st.dictionaries(st.integers(0, 9).map(str), st.floats(-100, 100), max_size=2),
    },
)


@given(parameters)
def test_parameters_survive_being_printed(stored: dict[str, object]) -> None:
    stored = model_spec(parameter_commands(stored)).parameters  # numbers of 32 bits in their shortest form
    commands = parse("FROM x\n" + print_modelfile(parameter_commands(stored)))
    assert model_spec(commands).parameters == stored
