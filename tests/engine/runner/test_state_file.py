"""States as files: what comes back is what was written, or nothing."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runner.known_tokens import KnownTokens
from engine.runner.placeholders import Placeholders
from engine.runner.saved_state import SavedState, portable
from engine.runner.state_file import BrokenFile, Head, StateFile, read_head, read_state, state_file

KEY, OTHER = b"k" * 32, b"o" * 32
CELLS = bytes(range(1, 251)) * 4
TOKENS = array("i", range(300))


def state(streams: int = 0) -> SavedState:
    """What llama.cpp writes of the second of three streams, made fit for any number, or as it is."""
    words = np.array([7, 1, 3, 0, 9], np.uint32).tobytes() + CELLS + bytes(4)
    data = np.zeros(len(words) + 1024, np.uint8)
    data[: len(words)] = np.frombuffer(words, np.uint8)
    return SavedState(data, 0, len(words), streams) if streams else portable(data, len(words), 3)


def written(folder: Path, file: StateFile) -> Path:
    path = folder / file.name
    path.write_bytes(b"".join(map(bytes, file.read())))
    assert path.stat().st_size == file.size
    return path


def made(known: KnownTokens, saved: SavedState, placeholders: Placeholders | None = None) -> StateFile:
    file = state_file(known, saved, KEY, placeholders)
    assert file is not None
    return file


def both(path: Path, key: bytes = KEY) -> tuple[Head, SavedState]:
    head, encoded = read_head(path, key)
    return head, read_state(path, encoded, key)


@pytest.mark.parametrize("streams", [0, 3])
def test_what_is_read_is_what_was_written(streams: int, tmp_path: Path) -> None:
    saved = state(streams)
    head, back = both(written(tmp_path, made(KnownTokens(TOKENS, 290, 256, "ada"), saved)))
    known = head.known(None, "ada")
    assert (known.tokens, known.n_prompt, known.on_grid, known.owner) == (TOKENS, 290, 256, "ada")
    assert back.streams == streams
    for count in (3,) if streams else (1, 3, 8):
        mine, theirs = saved.fit(count), back.fit(count)
        assert mine is not None
        assert theirs is not None
        assert mine.tobytes() == theirs.tobytes()


def test_a_state_may_be_used_while_it_is_written(tmp_path: Path) -> None:
    saved = state()
    file = made(KnownTokens(TOKENS, 290), saved)
    pieces = []
    for piece in file.read():
        pieces.append(bytes(piece))
        saved.fit(5)
    path = tmp_path / file.name
    path.write_bytes(b"".join(pieces))
    _, back = both(path)
    assert back.fit(2) is not None


@settings(max_examples=300)
@given(data=st.data())
def test_every_wrong_bit_is_seen(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("state")
    path = written(folder, made(KnownTokens(TOKENS, 290), state()))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(BrokenFile):
        both(path)


@settings(max_examples=100)
@given(data=st.data())
def test_every_other_length_is_seen(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("state")
    path = written(folder, made(KnownTokens(TOKENS, 290), state()))
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(BrokenFile):
        both(path)


@given(content=st.binary(max_size=400))
def test_any_bytes_are_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("state") / "x.state"
    for start in (b"", b"PRONKST1", b"PRONKST1\x10\0\0\0"):
        path.write_bytes(start + content)
        with pytest.raises(BrokenFile):
            read_head(path, KEY)


def test_what_other_settings_wrote_proves_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, made(KnownTokens(TOKENS, 290), state()))
    with pytest.raises(BrokenFile):
        read_head(path, OTHER)
    _, encoded = read_head(path, KEY)
    with pytest.raises(BrokenFile):
        read_state(path, encoded, OTHER)


def test_a_file_that_was_replaced_meanwhile(tmp_path: Path) -> None:
    path = written(tmp_path, made(KnownTokens(TOKENS, 290), state()))
    _, encoded = read_head(path, KEY)
    other = written(tmp_path, made(KnownTokens(TOKENS[:299] + array("i", [7]), 290), state()))
    other.replace(path)
    with pytest.raises(BrokenFile):
        read_state(path, encoded, KEY)


def test_links_are_not_followed(tmp_path: Path) -> None:
    path = written(tmp_path, made(KnownTokens(TOKENS, 290), state()))
    target = path.rename(tmp_path / "elsewhere")
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        read_head(path, KEY)


def test_media_get_the_ids_of_the_process_that_reads(tmp_path: Path) -> None:
    writer, reader = Placeholders(), Placeholders()
    cat, tone = (b"cat", 0, 4), (b"tone", 1, 3)
    tokens = array("i", [5]) + writer.ids(cat, 4, 2) + writer.ids(cat, 4, 2) + writer.ids(tone, 3, 3) + TOKENS
    reader.ids((b"dog", 0, 4), 4, 2)
    path = written(tmp_path, made(KnownTokens(tokens, 290), state(), writer))
    head, _ = both(path)
    expected = array("i", [5]) + reader.ids(cat, 4, 2) + reader.ids(cat, 4, 2) + reader.ids(tone, 3, 3) + TOKENS
    assert head.known(reader, "").tokens == expected != tokens
    with pytest.raises(BrokenFile):
        head.known(None, "")


def test_media_that_are_forgotten_cannot_be_written() -> None:
    writer = Placeholders(remembered=1)
    tokens = writer.ids((b"cat", 0, 4), 4, 2) + TOKENS
    writer.ids((b"dog", 0, 4), 4, 2)
    assert state_file(KnownTokens(tokens, 290), state(), KEY, writer) is None
    assert state_file(KnownTokens(tokens, 290), state(), KEY, None) is None
