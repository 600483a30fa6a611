"""Messages out of lines."""

import io

import pytest

from cli.input import FILE, History, LineReader


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
def test_one_message(monkeypatch: pytest.MonkeyPatch, typed: str, message: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    lines = LineReader(History(FILE, kept=False))
    assert lines.read() == message
    with pytest.raises(EOFError):
        lines.read()
