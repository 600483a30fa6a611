"""Messages out of lines."""

import io

import pytest

from cli.input import is_open, message_of


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
