"""What is not there is skipped, but not where everything has to be tested."""

import shutil

import pytest
from _pytest.outcomes import Failed, Skipped

from tests.outside import if_installed, missing, needs


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_it_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CI", value)
    with pytest.raises(Skipped, match="nosuchprogram cannot be found"):
        needs("sh", "nosuchprogram")
    monkeypatch.delenv("CI")
    with pytest.raises(Skipped, match="no disk"):
        missing("no disk")


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_it_fails_in_ci(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CI", value)
    with pytest.raises(Failed, match="nosuchprogram cannot be found"):
        needs("nosuchprogram")


def test_what_is_there_has_a_path() -> None:
    assert needs("sh", "env") == [shutil.which("sh"), shutil.which("env")]


def test_services_are_skipped_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    with pytest.raises(Skipped, match="nosuchprogram cannot be found, and is not installed"):
        if_installed("sh", "nosuchprogram")
    assert if_installed("sh") == [shutil.which("sh")]
