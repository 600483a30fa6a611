"""Text as Ollama shows it."""

from modelfile.text import SPACES


def test_spaces_are_those_of_go() -> None:
    assert "\x1c" not in SPACES
    assert all(space.isspace() for space in SPACES)
