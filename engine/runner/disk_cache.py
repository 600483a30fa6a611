"""The prompt cache's second tier: states of finished sequences on disk, which outlive the process.

This process may write no files, so the server does (`engine.state_messages`). One thread gives it states; another reads
files that a sequence waits for. The loop thread does neither: it asks an index in memory, which is made at the load.
"""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import sys
import threading
import time
import weakref
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec

from engine.messages import LoadModel, StateFiles
from engine.runner.known_tokens import KnownTokens, Reuse, common_prefix
from engine.runner.llamacpp import CPU_VARIANT, C, version
from engine.runner.log import log
from engine.runner.placeholders import Placeholders
from engine.runner.prompt_cache import CachedState
from engine.runner.saved_state import WORD
from engine.runner.state_file import BrokenFile, StateFile, owner_digest, read_head, read_state, state_file
from engine.state_messages import (
    MOST_REPLACED,
    SUFFIX,
    YES,
    BrokenState,
    KeepState,
    StateMessage,
    UsedState,
    encode_state_frame,
)
from modelfile.crashes import processor
from registry.logfields import fields

LEAST = 256  # tokens of a state that is worth a file, and those by which one is looked up
WORTH_READING = 128  # tokens that a file must have more than what is in memory
IDLE = 60.0  # seconds after which what was not used goes to disk, too: a conversation's turns follow faster
LOOK = 10.0  # seconds between two looks for such states
MOST_FILES = 4096  # in the index; the oldest are left out
MOST_INDEXED = 16 << 20  # tokens in the index
MOST_READ = 4  # this part of the prompt cache's memory may states take that were read and wait for their sequences
MOST_QUEUED = 8  # and this part those that have left it and wait to be written
_WAIT = 0.02  # seconds


@dataclass(slots=True, eq=False)
class StoredState:
    """A state on disk. `encoded` is the head of its file, `lookup` its place in the index."""

    name: str
    known: KnownTokens
    streams: int
    encoded: bytes
    lookup: tuple[bytes, bytes]


class Fetch:
    """A state that is being read. Once it is `done`, `entry` is there, or None if the file was of no use."""

    def __init__(self, stored: StoredState, owner: str) -> None:
        self.stored = stored
        self.owner = owner
        self.done = False
        self.entry: CachedState | None = None


class DiskCache:
    """The states of one model in a folder. `key`: the digest of what states depend on.

    The loop thread calls all methods but `read_index`; `wake` is called from others when a state was read, `due` when
    it is time to look for states that nobody has used for a while.
    """

    def __init__(self, files: StateFiles, key: bytes, sock: socket.socket, *, can_cut: bool, memory: int) -> None:
        self._folder = Path(files.folder)
        self._limit = files.limit
        self._key = key
        self._sock = sock
        self._can_cut = can_cut
        self._memory = memory
        self._placeholders: Placeholders | None = None
        self._guard = threading.Lock()
        self._index: dict[tuple[bytes, bytes], list[StoredState]] = {}
        self._stored: OrderedDict[str, StoredState] = OrderedDict()  # by name, the last used at the end
        self._indexed = 0  # tokens
        self._queue: SimpleQueue[_Write | StateMessage] = SimpleQueue()
        self._queued: dict[int, _Write] = {}  # by id()
        self._wanted: SimpleQueue[Fetch] = SimpleQueue()
        self._fetches: weakref.WeakValueDictionary[str, Fetch] = weakref.WeakValueDictionary()
        self._unsaved = threading.Event()
        self._closed = False  # the server takes nothing any more
        self._wake: Callable[[], None] = lambda: None
        self._due: Callable[[], None] = lambda: None

    def start(self, placeholders: Placeholders | None, wake: Callable[[], None], due: Callable[[], None]) -> None:
        """Read the index, then begin to read and to write. `placeholders`: those of prompts with media."""
        self._placeholders = placeholders
        self._wake, self._due = wake, due
        self.read_index()
        for name, run in (("state writer", self._write_all), ("state reader", self._read_all), ("idle", self._look)):
            threading.Thread(target=run, name=name, daemon=True).start()

    def read_index(self) -> None:
        """Read the heads of the newest files. What is no file of ours is reported and removed by the server."""
        started = time.perf_counter()
        broken = 0
        for name in _newest(self._folder, self._key.hex()[:16]):
            try:
                head, encoded = read_head(self._folder / name, self._key)
                known = head.known(self._placeholders, "")
                if head.count < LEAST:
                    raise BrokenFile
            except BrokenFile:
                broken += 1
                self._queue.put(BrokenState(name))
            except OSError:
                continue
            else:
                if self._indexed + head.count > MOST_INDEXED or len(self._stored) >= MOST_FILES:
                    break
                self._add(StoredState(name, known, head.streams, encoded, _lookup(head.owner, known.tokens)))
        for name in reversed([*self._stored]):
            self._stored.move_to_end(name)  # they came with the newest first
        counts = {"states": len(self._stored), "tokens": self._indexed, "broken": broken or None}
        log.debug("states on disk", extra=fields(**counts, ms=(time.perf_counter() - started) * 1e3))

    def find(
        self, tokens: array[int], reuse: Reuse, grid: int, streams: int, owner: str
    ) -> tuple[StoredState | None, int]:
        """The state with the longest beginning of `tokens` for a context with so many streams, and that length."""
        best: StoredState | None = None
        longest = 0
        if len(tokens) <= LEAST or reuse is Reuse.NONE:
            return None, 0
        with self._guard:
            for stored in self._index.get(_lookup(owner_digest(owner), tokens), ()):
                if stored.streams not in (0, streams):
                    continue
                held = len(stored.known.tokens)
                length = stored.known.usable(tokens, reuse, grid, held)  # it is of this owner
                if length > longest and (self._can_cut or length == held):
                    best, longest = stored, length
        return best, longest

    def fetch(self, stored: StoredState, owner: str) -> Fetch:
        """Have a state of this owner read. All that wait for it share it."""
        fetch = self._fetches.get(stored.name)
        if fetch is None or (fetch.done and fetch.entry is None):
            fetch = self._fetches[stored.name] = Fetch(stored, owner)
            self._wanted.put(fetch)
        return fetch

    def wants(self, known: KnownTokens, streams: int) -> bool:
        """Whether these tokens are worth a file and have none."""
        if len(known.tokens) < LEAST:
            return False
        with self._guard:
            pending = [write.stored for write in self._queued.values()]
            others = [*self._index.get(_lookup(owner_digest(known.owner), known.tokens), ()), *pending]
            return not any(self._replaces(other, known, streams, owner_digest(known.owner)) for other in others)

    def has_room(self, size: int) -> bool:
        """Whether a state of so many bytes may wait to be written although it is nowhere else."""
        with self._guard:
            queued = sum(write.entry.state.size for write in self._queued.values())
        return not queued or queued + size <= self._memory // MOST_QUEUED

    def offer(self, entry: CachedState) -> bool:
        """Have a state written, if it is wanted. False if it is not, or too much waits."""
        state = entry.state
        if self._closed or not self.wants(entry.known, state.streams) or not self.has_room(state.size):
            return False
        file = state_file(entry.known, state, self._key, self._placeholders)
        if file is None or file.size > self._limit:
            return False
        lookup = _lookup(file.head.owner, entry.known.tokens)
        known = KnownTokens(entry.known.tokens, entry.known.n_prompt, entry.known.on_grid)
        write = _Write(entry, file, StoredState(file.name, known, state.streams, file.encoded, lookup))
        with self._guard:
            self._queued[id(write)] = write
        self._queue.put(write)
        return True

    def changed(self) -> None:
        """There is something new that may be worth a file."""
        self._unsaved.set()

    def drain(self) -> None:
        """Wait until all that was offered is written, or could not be."""
        while self._queued and not self._closed:
            time.sleep(_WAIT)

    def _replaces(self, stored: StoredState, known: KnownTokens, streams: int, owner: bytes) -> bool:
        """Whether all that a sequence could take from `known` it can take from a stored state."""
        theirs, length = stored.known, len(known.tokens)
        if stored.lookup[0] != owner or len(theirs.tokens) < length or theirs.on_grid < known.on_grid:
            return False
        if stored.streams not in (0, streams) or not (self._can_cut or len(theirs.tokens) == length):
            return False
        return common_prefix(theirs.tokens, known.tokens, length) == length

    def _replaced_by(self, new: StoredState) -> list[str]:
        """Names of files that a new one makes needless."""
        with self._guard:
            others = self._index.get(new.lookup, ())
            return [
                other.name
                for other in others
                if other.name != new.name and self._replaces(new, other.known, other.streams, other.lookup[0])
            ]

    def _add(self, stored: StoredState) -> None:
        with self._guard:
            self._forget(stored.name)
            self._index.setdefault(stored.lookup, []).append(stored)
            self._stored[stored.name] = stored
            self._indexed += len(stored.known.tokens)
            while self._indexed > MOST_INDEXED or len(self._stored) > MOST_FILES:
                self._forget(next(iter(self._stored)))

    def _drop(self, name: str) -> None:
        with self._guard:
            self._forget(name)

    def _forget(self, name: str) -> None:
        if (stored := self._stored.pop(name, None)) is not None:
            self._indexed -= len(stored.known.tokens)
            others = self._index[stored.lookup]
            others.remove(stored)
            if not others:
                del self._index[stored.lookup]

    # Threads

    def _look(self) -> None:
        """Have the loop look now and then whether there are states that nobody has used for a while."""
        while True:
            self._unsaved.wait()
            time.sleep(LOOK)
            self._unsaved.clear()
            self._due()

    def _write_all(self) -> None:
        """The writer thread: give states to the server, and tell it what was read and what is broken."""
        with suppress(OSError):  # the server has gone, and this process goes with it
            while True:
                item = self._queue.get()
                if not isinstance(item, _Write):
                    self._sock.sendall(encode_state_frame(item))
                    continue
                try:
                    self._write(item)
                finally:
                    with self._guard:
                        del self._queued[id(item)]
        self._closed = True

    def _write(self, write: _Write) -> None:
        started = time.perf_counter()
        replaced = self._replaced_by(write.stored)[:MOST_REPLACED]
        self._sock.sendall(encode_state_frame(KeepState(write.stored.name, write.file.size, tuple(replaced))))
        if self._sock.recv(1) != YES:
            return
        for piece in write.file.read():
            self._sock.sendall(piece)
        if self._sock.recv(1) != YES:
            return
        for name in replaced:
            self._drop(name)
        self._add(write.stored)
        counts = {"tokens": len(write.stored.known.tokens), "bytes": write.file.size, "replaces": len(replaced)}
        log.debug("state written to disk", extra=fields(**counts, ms=(time.perf_counter() - started) * 1e3))

    def _read_all(self) -> None:
        """The reader thread: read what sequences wait for, as long as few states wait for their sequences."""
        done: deque[weakref.ref[Fetch]] = deque()
        while True:
            fetch = self._wanted.get()
            while sum(_held(other) for other in done) > self._memory // MOST_READ:
                done = deque(other for other in done if other() is not None)
                time.sleep(_WAIT)
            self._read(fetch)
            done.append(weakref.ref(fetch))
            fetch.done = True
            del fetch
            self._wake()

    def _read(self, fetch: Fetch) -> None:
        stored, started = fetch.stored, time.perf_counter()
        try:
            state = read_state(self._folder / stored.name, stored.encoded, self._key)
        except (BrokenFile, OSError, MemoryError) as error:
            self._drop(stored.name)
            if isinstance(error, BrokenFile):
                log.warning("a state on disk is broken and is removed", extra=fields(file=stored.name))
                self._queue.put(BrokenState(stored.name))
            return
        known = KnownTokens(stored.known.tokens, stored.known.n_prompt, stored.known.on_grid, fetch.owner)
        fetch.entry = CachedState(known, state)
        self._queue.put(UsedState(stored.name))
        with self._guard:
            if stored.name in self._stored:
                self._stored.move_to_end(stored.name)
        counts = {"tokens": len(stored.known.tokens), "bytes": state.end}
        log.debug("state read from disk", extra=fields(**counts, ms=(time.perf_counter() - started) * 1e3))


@dataclass(slots=True, eq=False)
class _Write:
    """A state that waits to be written."""

    entry: CachedState
    file: StateFile
    stored: StoredState


def state_key(spec: LoadModel, grid: int) -> bytes:
    """The digest of all that the bytes of a state, and the numbers in them, depend on beside the tokens.

    Weights, adapters and projector by name (that of a blob is its digest) and size; what is computed where and in which
    types; llama.cpp and its libraries; the processor, whose kinds add up in other orders.
    """
    libraries = sorted(Path(C._lib._name).parent.glob("lib*"))
    what: dict[str, Any] = {
        "files": [_stamp(Path(path), exact=False) for path in (spec.path, *spec.adapters, spec.projector) if path],
        "library": [version(), CPU_VARIANT, *(_stamp(path, exact=True) for path in libraries)],
        "machine": [platform.machine(), processor(), sys.byteorder],
        "overrides": spec.overrides,
        "types": [spec.cache_type, spec.cache_type_v, spec.flash_attention, spec.swa_full],
        "places": [spec.n_gpu_layers, spec.devices, spec.tensor_split, spec.cpu_experts, spec.use_mmap],
        "media": [spec.image_min_tokens, spec.image_max_tokens],
        "grid": grid,
    }
    return hashlib.sha256(msgspec.json.encode(what)).digest()


def _stamp(path: Path, *, exact: bool) -> tuple[str, int, int]:
    """A file's name and size, and its time of change if `exact`."""
    try:
        status = path.stat()
    except OSError:
        return path.name, 0, 0
    return path.name, status.st_size, status.st_mtime_ns if exact else 0


def _newest(folder: Path, prefix: str) -> Iterator[str]:
    """Names of the files that begin with `prefix`, the last used first."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(SUFFIX):
                with suppress(OSError):
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
    return (name for _, name in sorted(found, reverse=True))


def _lookup(owner: bytes, tokens: array[int]) -> tuple[bytes, bytes]:
    """The place of a state in the index: its owner and its first tokens."""
    return owner, memoryview(tokens).cast("B")[: LEAST * WORD].tobytes()


def _held(fetch: weakref.ref[Fetch]) -> int:
    """Bytes of a state that was read and not used yet."""
    entry = None if (alive := fetch()) is None else alive.entry
    return 0 if entry is None else entry.state.size
