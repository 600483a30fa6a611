"""/set: every setting, and what it does not take."""

from pathlib import Path
from typing import Any

import pytest

from cli.arguments import CommandError
from cli.commands import SET_HELP, change_setting
from cli.input import History
from cli.session import Session


@pytest.fixture
def session() -> Session:
    return Session(model="m")


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history", kept=True)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("system You are Alice.", "system", "You are Alice."),
        ("format", "output_format", "json"),
        ('format {"type": "object"}', "output_format", {"type": "object"}),
        ("noformat", "output_format", None),
        ("think", "think", True),
        ("think high", "think", "high"),
        ("nothink", "think", False),
        ("verbose", "verbose", True),
        ("quiet", "verbose", False),
        ("parameter temperature 0.5", "options", {"temperature": 0.5}),
        ("parameter num_ctx 512", "options", {"num_ctx": 512}),
        ("parameter stop one two", "options", {"stop": ["one", "two"]}),
    ],
)
def test_a_setting(session: Session, history: History, text: str, name: str, value: Any) -> None:
    change_setting(session, history, text)
    assert getattr(session, name) == value


def test_look_and_history(session: Session, history: History) -> None:
    for text, wrap, kept in (("nowordwrap", False, True), ("nohistory", False, False), ("wordwrap", True, False)):
        change_setting(session, history, text)
        assert (session.look.wrap, history.kept) == (wrap, kept)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bogus", "unknown setting 'bogus', /set [?] lists them"),
        ("parameter", "/set parameter needs a name and a value"),
        ("parameter num_ctx", "/set parameter needs a name and a value"),
        ("parameter bogus 1", "unknown parameter 'bogus'"),
        ("parameter num_ctx abc", r"invalid int value \[abc\]"),
        ("think maybe", "invalid value for --think"),
        ("format xml", "--format must be json or a JSON schema"),
    ],
)
def test_a_mistake(session: Session, history: History, text: str, message: str) -> None:
    before = vars(session).copy()
    with pytest.raises(CommandError, match=message):
        change_setting(session, history, text)
    assert vars(session) == before


def test_help_names_every_setting(session: Session, history: History, capsys: pytest.CaptureFixture[str]) -> None:
    change_setting(session, history, "?")
    assert capsys.readouterr().out == f"{SET_HELP}\n"
    for name in ("parameter", "system", "format", "noformat", "think", "nothink", "verbose", "quiet"):
        assert f"/set {name}" in SET_HELP
