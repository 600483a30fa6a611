"""Messages out of lines."""

import io
import itertools

import pytest

from cli import input as cli_input
from cli.arguments import CommandError
from cli.input import bounded, is_open, message_of


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("Hello!\n", "Hello!"),
        ('"""one line"""\n', "one line"),
        ('"""Count\nto 5"""\n', "Count\nto 5"),
        ('"""\nCount\nto 5\n"""\n', "Count\nto 5\n"),
        ('/set system """You are\nAlice."""\n', "/set system You are\nAlice."),
        ('What does """ mean in Python?\n', 'What does """ mean in Python?'),
    ],
)
def test_one_message(typed: str, message: str) -> None:
    lines = io.StringIO(typed)
    text = lines.readline().removesuffix("\n")
    while is_open(text):
        text += "\n" + lines.readline().removesuffix("\n")
    assert message_of(text) == message
    assert lines.read() == ""


def test_an_input_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_input, "MOST_INPUT", 5000)
    taken = itertools.count(1)

    def read(_: int) -> bytes:
        next(taken)
        return bytes(1000)

    with pytest.raises(CommandError, match=r"^/dev/zero is larger than 5 KB$"):
        b"".join(bounded(read, "/dev/zero"))
    assert next(taken) == 7  # five pieces fit
