"""Encodes chunks of media beside the loop, and keeps their rows for whoever shows the same picture again."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import chain, zip_longest

from engine.runner.batch import Rows
from engine.runner.log import log
from engine.runner.media import MediaRejected
from engine.runner.projector import EncodeStopped, Projector, Span
from registry.logfields import fields


class Encoder:
    """Makes rows of the chunks that sequences want, one at a time; keeps `limit` bytes of those not wanted any more.

    Who wants what is said by the loop thread; `start` makes a thread that encodes, and calls `ready` after each chunk.
    Without one, `encode_next` must be called. A chunk that several want is encoded once; one that nobody wants any more
    is given up within a layer.
    """

    def __init__(self, projector: Projector, limit: int) -> None:
        self._projector = projector
        self._limit = limit
        self._changed = threading.Condition()  # guards all that follows
        self._wanted: dict[int, tuple[Span, ...]] = {}  # by request, the nearest span of each first
        self._rows: OrderedDict[Hashable, Rows] = OrderedDict()  # the last used at the end
        self._failed: set[Hashable] = set()
        self._size = 0
        self.threaded = False
        self.encoded = 0

    @property
    def nodes(self) -> int:
        """Counts what has been computed: it grows while an encode lives."""
        return self._projector.nodes

    def start(self, ready: Callable[[], None]) -> None:
        """Encode on a thread of its own from now on."""

        def run() -> None:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._next() is not None)
                if self.encode_next():
                    ready()

        self.threaded = True
        threading.Thread(target=run, name="encoder", daemon=True).start()

    def want(self, wanted: dict[int, tuple[Span, ...]]) -> None:
        """Say whose rows are needed next, by request, in the place of all that was said before."""
        if wanted == self._wanted:
            return
        with self._changed:
            self._wanted = wanted
            self._failed &= self._keys()
            self._trim()
            self._changed.notify()

    def rows(self, key: Hashable) -> Rows | None:
        """A chunk's rows, None if they are not there yet."""
        with self._changed:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def has_failed(self, key: Hashable) -> bool:
        """Whether a wanted chunk could not be encoded."""
        return key in self._failed

    def encode_next(self) -> bool:
        """Encode one chunk; False if there was none, or nobody wanted it any more."""
        with self._changed:
            span = self._next()
            if span is None:
                return False
        key = span.key
        started = time.perf_counter()
        try:
            rows = self._projector.encode(span.to_encode(), lambda: key not in self._keys())
        except MediaRejected as error:
            log.warning("media cannot be prepared", extra=fields(reason=str(error)))
            rows = None
        except EncodeStopped:
            log.debug("encode given up", extra=fields(tokens=span.chunk.n_tokens))
            return False
        milliseconds = (time.perf_counter() - started) * 1e3
        with self._changed:
            if rows is None:
                self._failed.add(key)
            else:
                self._rows[key] = rows
                self._size += rows.nbytes
                self.encoded += 1
                self._trim()
        what = "media encoded" if rows is not None else "media cannot be encoded"
        log.debug(what, extra=fields(tokens=span.chunk.n_tokens, ms=milliseconds))
        return True

    def _next(self) -> Span | None:
        """The chunk to encode: what is next for any request comes before what is needed later."""
        in_turns = chain.from_iterable(zip_longest(*self._wanted.values()))
        return next((s for s in in_turns if s and s.key not in self._rows and s.key not in self._failed), None)

    def _keys(self) -> set[Hashable]:
        """What is wanted. Also read without the lock, while a chunk is encoded."""
        return {span.key for spans in self._wanted.values() for span in spans}

    def _trim(self) -> None:
        wanted = self._keys()
        for key in [key for key in self._rows if key not in wanted] if self._size > self._limit else ():
            self._size -= self._rows.pop(key).nbytes
            if self._size <= self._limit:
                break
