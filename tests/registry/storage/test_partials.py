"""Partials: written in any order, journalled, found again, checked, published."""

import errno
import json
import multiprocessing
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import CorruptDownload, StoreError
from registry.names import Digest
from registry.storage.partials import JOURNAL_EVERY, Division, Partial, PartialClosed
from tests.registry.storage.test_files import largest_file

DATA = random.Random(1).randbytes(1000)
DIGEST = Digest.of(DATA)
DIVISION = Division(count=4, smallest=1, largest=1000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def opened(folder: Path, data: bytes = DATA, division: Division = DIVISION) -> Partial:
    partial = Partial(folder, Digest.of(data))
    partial.open(len(data), division)
    return partial


def fill(partial: Partial, data: bytes = DATA) -> None:
    for part in partial.parts:
        partial.write(part, data[part.start : part.end])


def names(folder: Path) -> set[str]:
    return {name.removeprefix(DIGEST.filename) for name in os.listdir(folder)}


def test_a_blob_by_parts(folder: Path) -> None:
    partial = opened(folder)
    assert (partial.total, partial.completed) == (1000, 0)
    assert names(folder) == {"-partial", "-partial-0", "-partial-1", "-partial-2", "-partial-3"}
    fill(partial)
    assert partial.completed == 1000
    partial.commit()
    partial.close()
    assert names(folder) == {""}
    path = folder / DIGEST.filename
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_empty_blob(folder: Path) -> None:
    partial = opened(folder, b"")
    assert partial.parts == []
    partial.commit()
    partial.close()
    assert os.listdir(folder) == [Digest.of(b"").filename]


def test_what_was_written_is_found_again(folder: Path) -> None:
    partial = opened(folder)
    partial.write(partial.parts[1], DATA[250:300])
    partial.write(partial.parts[3], DATA[750:1000] + b"too much")
    partial.close()
    state = json.loads((folder / f"{DIGEST.filename}-partial-1").read_text())
    assert state == {"N": 1, "Offset": 250, "Size": 250, "Completed": 50}
    assert (folder / f"{DIGEST.filename}-partial").stat().st_size == 1000
    assert Partial(folder, DIGEST).kept == 300
    partial = opened(folder)
    assert [part.completed for part in partial.parts] == [0, 50, 0, 250]
    fill(partial)
    partial.commit()
    partial.close()
    assert names(folder) == {""}


def test_the_partial_of_an_ollama(folder: Path) -> None:
    folder.mkdir()
    (folder / f"{DIGEST.filename}-partial").write_bytes(DATA[:600] + bytes(400))
    for number, completed in ((0, 500), (1, 100)):
        state = {"N": number, "Offset": 500 * number, "Size": 500, "Completed": completed}
        (folder / f"{DIGEST.filename}-partial-{number}").write_text(json.dumps(state) + "\n")
    partial = opened(folder)
    assert partial.completed == 600
    fill(partial)
    partial.commit()
    partial.close()
    assert names(folder) == {""}


def test_a_journal_is_kept_on_the_way(folder: Path) -> None:
    data = bytes(3 * JOURNAL_EVERY)
    partial = opened(folder, data, Division(count=1, smallest=len(data), largest=len(data)))
    other = Partial(folder, Digest.of(data))
    lost = []
    for start in range(0, len(data), 1 << 20):
        partial.write(partial.parts[0], data[start : start + (1 << 20)])
        lost.append(partial.completed - other.kept)
    assert max(lost) <= JOURNAL_EVERY
    assert lost[-1] == 0
    partial.close()


def test_a_wrong_blob_is_never_there(folder: Path) -> None:
    partial = opened(folder)
    fill(partial, DATA[:-1] + b"?")
    with pytest.raises(CorruptDownload, match=f"must be downloaded again: want {DIGEST}, got sha256:"):
        partial.commit()
    partial.close()
    assert os.listdir(folder) == []


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(0, 7))
def test_any_flipped_bit_is_seen(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("blobs")
    partial = opened(folder)
    fill(partial)
    with (folder / f"{DIGEST.filename}-partial").open("r+b") as file:
        file.seek(place)
        file.write(bytes([DATA[place] ^ 1 << bit]))
    with pytest.raises(CorruptDownload):
        partial.commit()
    partial.close()
    assert os.listdir(folder) == []


@pytest.mark.parametrize("text", ["", "{", '{"N":1,"Offset":250,"Size":9999,"Completed":9999}\n', '{"N":7}', "\0" * 60])
def test_a_journal_that_makes_no_sense(folder: Path, text: str) -> None:
    partial = opened(folder)
    fill(partial)
    partial.close()
    (folder / f"{DIGEST.filename}-partial-1").write_text(text)
    partial = opened(folder)
    assert [part.completed for part in partial.parts] == [250, 0, 250, 250]
    fill(partial)
    partial.commit()
    partial.close()
    assert names(folder) == {""}


@pytest.mark.parametrize("left", [0, 400])
def test_a_blob_that_is_shorter_than_its_journal(folder: Path, left: int) -> None:
    partial = opened(folder)
    fill(partial)
    partial.close()
    os.truncate(folder / f"{DIGEST.filename}-partial", left)
    partial = opened(folder)
    assert partial.completed == left
    partial.close()


def test_a_journal_without_a_blob(folder: Path) -> None:
    opened(folder).close()
    (folder / f"{DIGEST.filename}-partial").unlink()
    assert Partial(folder, DIGEST).kept == 0


def test_another_size(folder: Path) -> None:
    partial = opened(folder)
    fill(partial)
    partial.close()
    partial = Partial(folder, DIGEST)
    partial.open(900, DIVISION)
    assert (partial.total, partial.completed) == (900, 750)
    partial.close()


def test_a_full_disk_keeps_what_is_there(folder: Path) -> None:
    partial = opened(folder)
    with largest_file(600), pytest.raises(StoreError, match="cannot write a blob: File too large"):
        fill(partial)
    partial.close()
    assert Partial(folder, DIGEST).kept == 600
    partial = opened(folder)
    fill(partial)
    partial.commit()
    partial.close()
    assert names(folder) == {""}


def test_stopped(folder: Path) -> None:
    partial = opened(folder)
    fill(partial)
    partial.stop()
    with pytest.raises(PartialClosed):
        partial.commit()
    partial.close()
    partial.close()
    assert Partial(folder, DIGEST).kept == 1000


def hold(folder: Path, ready: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event") -> None:
    partial = opened(folder)
    ready.set()
    done.wait(60)
    partial.close()


def test_two_processes_do_not_write_the_same_blob(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(folder, ready, done))
    process.start()
    assert ready.wait(60)
    partial = Partial(folder, DIGEST)
    with pytest.raises(StoreError, match="another program is downloading this blob"):
        partial.open(1000, DIVISION)
    partial.close()
    done.set()
    process.join(60)
    opened(folder).close()


def test_errors_name_no_path(folder: Path) -> None:
    folder.write_text("no folder")
    with pytest.raises(StoreError) as caught:
        opened(folder)
    assert str(folder) not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert getattr(caught.value.__cause__, "errno", None) in (errno.ENOTDIR, errno.EEXIST)
