"""What `make faults` says, and when it fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import __main__ as program
from tests.faults.measure import QUICK, Counts, Line, kept, milliseconds, percentile, timed


def test_percentiles() -> None:
    values = [number / 1000 for number in range(100, 0, -1)]
    assert percentile(values, 0.5) == 0.051
    assert percentile(values, 0.99) == 0.1
    assert milliseconds(values) == "p50 51.0 ms, p99 100.0 ms, most 100.0 ms"
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.5)


def promises(folder: Path, counts: Counts) -> Iterator[Line]:
    yield kept("R1", "nobody is lost", "0 of 5", True)
    yield timed("R1", "at once", "later", False)


def losses(folder: Path, counts: Counts) -> Iterator[Line]:
    yield kept("R2", "nobody is lost", "1 of 5", False)


def accident(folder: Path, counts: Counts) -> Iterator[Line]:
    yield kept("R3", "nobody is lost", "0 of 5", True)
    raise ConnectionError("the server has gone")


def run(monkeypatch: pytest.MonkeyPatch, target: Path, **runs: program.Run) -> int:
    monkeypatch.setattr(program, "RUNS", runs)
    monkeypatch.setattr("sys.argv", ["faults", "--quick", "--write", str(target)])
    return program.main()


def test_a_goal_that_is_missed_is_told_and_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path / "faults.md", R1=promises) == 0
    written = (tmp_path / "faults.md").read_text()
    assert "| R1 | nobody is lost | 0 of 5 | yes |\n| R1 | at once | later | NO |\n" in written
    assert "A quick look" in written
    assert "Seconds: R1 0." in written
    assert "exit code 0: nothing was lost or left over; " in capsys.readouterr().err


def test_a_loss_or_an_accident_fails_and_the_others_are_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path / "faults.md", R2=losses, R1=promises) == 1
    assert "exit code 1: something was lost or left over, or a run broke: R2: nobody is" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path / "faults.md", R3=accident, R1=promises) == 1
    written = (tmp_path / "faults.md").read_text()
    assert "| R3 | the run comes to its end | ConnectionError: the server has gone | NO |" in written
    assert "| R1 | nobody is lost |" in written
    assert QUICK.kills < 10
