"""The folder of states: whole files or none, private, bounded, for one server; what a hostile process gets there."""

from __future__ import annotations

import logging
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engine.loading.state_folder import StateFolder, Unusable, holdings, open_folder
from engine.loading.state_receiver import StateReceiver
from engine.state_messages import NO, YES, BrokenState, KeepState, StateMessage, UsedState, encode_state_frame
from tests.disks import small_disk

ONE, OTHER = "1" * 64, "2" * 64
LIMIT = 1000


def name(number: int) -> str:
    return f"{number:016x}-{number:032x}.state"


def keep(folder: StateFolder, number: int, size: int = 300, digest: str = ONE) -> bool:
    """Write a file as a whole."""
    pending = folder.begin(digest, name(number), size)
    if pending is None:
        return False
    try:
        pending.write(memoryview(bytes([number]) * size))
        return pending.publish()
    finally:
        pending.close()


def numbers(folder: StateFolder, digest: str = ONE) -> list[int]:
    paths = (folder.root / "v1" / digest).iterdir() if (folder.root / "v1" / digest).exists() else ()
    return sorted(int(path.name[:16], 16) for path in paths)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path / "cache", LIMIT)
    folder.open_for(ONE)
    folder.open_for(OTHER)
    yield folder
    folder.close()


def reopened(folder: StateFolder, limit: int = LIMIT) -> StateFolder:
    """As after a restart of the server."""
    folder.close()
    again = StateFolder(folder.root.parent, limit)
    again.open_for(ONE)
    return again


def test_files_are_private(folder: StateFolder) -> None:
    before = os.umask(0)
    try:
        folder.open_for("3" * 64)
        assert keep(folder, 1)
        assert keep(folder, 2, digest="3" * 64)
    finally:
        os.umask(before)
    for path in folder.root.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700


def test_the_last_used_stay_over_restarts(folder: StateFolder) -> None:
    for number in (1, 2, 3):
        assert keep(folder, number)
        os.utime(folder.root / "v1" / ONE / name(number), (number, number))
    folder.used(ONE, name(1))
    again = reopened(folder)
    assert keep(again, 4)
    assert numbers(again) == [1, 3, 4]
    assert again.size == 900
    smaller = reopened(again, 700)
    assert numbers(smaller) == [1, 4]
    smaller.close()


def test_one_limit_is_for_all_models(folder: StateFolder) -> None:
    assert keep(folder, 1)
    assert keep(folder, 2, digest=OTHER)
    assert keep(folder, 3, 600, digest=OTHER)
    assert (numbers(folder), numbers(folder, OTHER)) == ([], [2, 3])
    assert (folder.size, folder.size_of(ONE), folder.size_of(OTHER)) == (900, 0, 900)
    assert not keep(folder, 4, LIMIT + 1)
    assert (numbers(folder), numbers(folder, OTHER)) == ([], [2, 3])


def test_files_that_are_being_written_count(folder: StateFolder) -> None:
    first, second = folder.begin(ONE, name(1), 500), folder.begin(ONE, name(2), 500)
    assert first is not None
    assert second is not None
    assert folder.begin(ONE, name(3), 1) is None
    first.close()
    second.close()
    assert keep(folder, 3, LIMIT)


def test_what_is_not_complete_has_no_name(folder: StateFolder) -> None:
    pending = folder.begin(ONE, name(1), 300)
    assert pending is not None
    pending.write(memoryview(bytes(299)))
    assert not pending.publish()
    assert [path.name[:5] for path in (folder.root / "v1" / ONE).iterdir()] == [".new-"]
    pending.close()
    assert numbers(folder) == []


def test_what_a_dead_server_left_is_removed(folder: StateFolder) -> None:
    assert keep(folder, 1)
    mine = folder.root / "v1" / ONE
    (mine / ".new-7").write_bytes(b"half")
    (mine / "notes.txt").write_text("foreign")
    (mine / name(9)).symlink_to("/etc/passwd")
    (folder.root / "v1" / "no digest").mkdir()
    again = reopened(folder)
    assert [path.name for path in mine.iterdir()] == [name(1)]
    assert not (again.root / "v1" / "no digest").exists()
    assert Path("/etc/passwd").exists()
    again.close()


def test_what_is_beside_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "v0").mkdir()
    (tmp_path / "letter.state").write_text("mine")
    mode = tmp_path.stat().st_mode
    folder = StateFolder(tmp_path, LIMIT)
    folder.open_for(ONE)
    keep(folder, 1)
    folder.forget(folder.digests)
    folder.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letter.state", "pronk-states", "v0"]
    assert tmp_path.stat().st_mode == mode


def test_states_of_another_version_go_with_one_warning(folder: StateFolder, caplog: pytest.LogCaptureFixture) -> None:
    (folder.root / "v0" / ONE).mkdir(parents=True)
    (folder.root / "v0" / ONE / "old").write_text("old")
    assert keep(folder, 1)
    again = reopened(folder)
    assert not (folder.root / "v0").exists()
    assert numbers(again) == [1]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    again.close()


def test_a_second_server_does_without(folder: StateFolder, caplog: pytest.LogCaptureFixture) -> None:
    program = "import sys; from pathlib import Path; from engine.loading.state_folder import open_folder\n"
    program += "print(open_folder(Path(sys.argv[1]), 1000))"
    command = [sys.executable, "-c", program, str(folder.root.parent)]
    other = subprocess.run(command, capture_output=True, text=True, check=True)
    assert other.stdout == "None\n"
    assert "another server uses it" in other.stderr
    assert open_folder(folder.root.parent, LIMIT) is None
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "prompt cache on disk is off: another server uses it")
    ]
    assert keep(folder, 1)


def test_a_folder_that_cannot_be_used_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "pronk-states").symlink_to(tmp_path)
    for bad in ("file", "file/below", "linked"):
        assert open_folder(tmp_path / bad, LIMIT) is None
    assert open_folder(Path("/proc/pronk"), LIMIT) is None, "nothing can be written there"
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4


def test_a_full_disk_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "small", 1 << 20) as disk:
        folder = StateFolder(disk, 1 << 30)
        folder.open_for(ONE)
        assert keep(folder, 1, 100_000)
        assert not keep(folder, 2, 2 << 20)
        assert not keep(folder, 3, 100_000), "it rests for a while"
        folder._quiet_until = 0.0
        assert not keep(folder, 2, 2 << 20)
        folder._quiet_until = 0.0
        assert keep(folder, 3, 100_000)
        assert numbers(folder) == [1, 3]
        folder.close()
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == ["prompt cache on disk cannot be written: the disk is full"]


def test_a_folder_that_has_gone_costs_one_warning(folder: StateFolder, caplog: pytest.LogCaptureFixture) -> None:
    assert keep(folder, 1)
    subprocess.run(["rm", "-r", str(folder.root)], check=True)
    assert not keep(folder, 2)
    assert not keep(folder, 3)
    folder.used(ONE, name(1))
    folder.remove(ONE, [name(1)])
    folder.forget({OTHER})
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_states_go_with_their_model_and_are_not_written_any_more(folder: StateFolder) -> None:
    assert keep(folder, 1)
    assert keep(folder, 2, digest=OTHER)
    pending = folder.begin(ONE, name(3), 10)
    assert pending is not None
    pending.write(memoryview(bytes(10)))
    folder.forget({ONE})
    assert not pending.publish()
    pending.close()
    assert not keep(folder, 4)
    assert not (folder.root / "v1" / ONE).exists()
    assert (numbers(folder, OTHER), folder.size) == ([2], 300)
    folder.open_for(ONE)
    assert keep(folder, 5), "it was created anew"


def test_nothing_is_written_for_models_that_nobody_has_loaded(folder: StateFolder) -> None:
    assert not keep(folder, 1, digest="4" * 64)


def test_holdings_are_counted_beside_a_server(folder: StateFolder) -> None:
    assert holdings(folder.root.parent) == (0, 0)
    keep(folder, 1)
    keep(folder, 2, digest=OTHER)
    assert holdings(folder.root.parent) == (2, 600)
    assert holdings(Path("/nowhere")) == (0, 0)


# A process at the other end


@pytest.fixture
def child(folder: StateFolder) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    receiver = StateReceiver(ours, folder, ONE)
    theirs.settimeout(60)
    with theirs:
        yield theirs
    receiver.join(60)
    assert not receiver._thread.is_alive()
    assert not list(folder.root.rglob(".new-*"))
    assert not folder._reserved


def say(child: socket.socket, message: StateMessage) -> None:
    child.sendall(encode_state_frame(message))


def give(child: socket.socket, number: int, data: bytes, *replaced: int) -> tuple[bytes, bytes]:
    say(child, KeepState(name(number), len(data), tuple(map(name, replaced))))
    first = child.recv(1)
    if first != YES:
        return first, b""
    child.sendall(data)
    return first, child.recv(1)


def test_a_process_has_states_kept(folder: StateFolder, child: socket.socket) -> None:
    data = os.urandom(400)
    assert give(child, 1, data) == (YES, YES)
    assert (folder.root / "v1" / ONE / name(1)).read_bytes() == data
    assert give(child, 2, data, 1, 9) == (YES, YES)
    assert numbers(folder) == [2]
    assert give(child, 3, bytes(LIMIT + 1)) == (NO, b"")
    say(child, UsedState(name(2)))
    say(child, BrokenState(name(2)))
    assert give(child, 4, data) == (YES, YES)
    assert numbers(folder) == [4]


@pytest.mark.parametrize(
    "bad", ["../../escape.state", "/etc/passwd", f"../{OTHER}/{name(1)}", "", ".new-1", name(1) + "/x", "x" * 5000]
)
def test_a_process_reaches_nothing_but_its_own_states(folder: StateFolder, child: socket.socket, bad: str) -> None:
    assert keep(folder, 1, digest=OTHER)
    say(child, KeepState(bad, 10))
    assert child.recv(1) == NO
    say(child, UsedState(bad))
    say(child, BrokenState(bad))
    say(child, KeepState(name(2), 10, (bad,)))
    assert child.recv(1) == YES
    child.sendall(bytes(10))
    assert child.recv(1) == YES
    assert (numbers(folder), numbers(folder, OTHER)) == ([2], [1])
    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize("nonsense", [b"\xff" * 4, b"\4\0\0\0\xc1\xc1\xc1\xc1", b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n"])
def test_who_talks_nonsense_is_not_heard_any_more(child: socket.socket, nonsense: bytes) -> None:
    child.sendall(nonsense)
    with suppress(ConnectionResetError):  # if there was more than it has read
        assert child.recv(1) == b""


def test_a_process_that_dies_in_the_middle_leaves_nothing(folder: StateFolder, child: socket.socket) -> None:
    say(child, KeepState(name(1), 900))
    assert child.recv(1) == YES
    child.sendall(bytes(500))
    child.close()


def test_one_that_does_not_go_on_is_given_up(monkeypatch: pytest.MonkeyPatch, folder: StateFolder) -> None:
    monkeypatch.setattr("engine.loading.state_receiver._PATIENCE", 0.05)
    ours, theirs = socket.socketpair()
    receiver = StateReceiver(ours, folder, ONE)
    with theirs:
        say(theirs, KeepState(name(1), 900))
        assert theirs.recv(1) == YES
        receiver.join(60)
        assert not receiver._thread.is_alive()
    assert keep(folder, 2, LIMIT), "its bytes are free again"


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pronk-states").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Unusable, match="not a folder of this user"):
        StateFolder(tmp_path, LIMIT)
