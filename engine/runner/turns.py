"""Clients take turns: whoever was served longest ago is next, however many requests each has."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from itertools import count
from queue import Empty
from typing import Generic, Protocol, TypeVar

from engine.client import Client

REMEMBERED = 1024  # clients, and programs of clients


class Turns:
    """When clients were served. A client's programs share its turns: it has no more of them for more programs."""

    def __init__(self) -> None:
        self._served: OrderedDict[str | Client, int] = OrderedDict()
        self._numbers = count(1)

    def serve(self, client: Client) -> None:
        """Note that it is served now."""
        for key in (client[0], client):
            self._served[key] = next(self._numbers)
            self._served.move_to_end(key)
        while len(self._served) > REMEMBERED:
            self._served.popitem(last=False)

    def rank(self, client: Client) -> tuple[int, int]:
        """Sort key, the next one first: when client and program were served, 0 for never or long ago."""
        return self._served.get(client[0], 0), self._served.get(client, 0)


class Asked(Protocol):
    """A message of a client."""

    @property
    def client(self) -> Client: ...


T = TypeVar("T", bound=Asked)


class TurnQueue(Generic[T]):
    """A queue between threads, whose clients take turns. The messages of one keep their order."""

    def __init__(self) -> None:
        self._lines: dict[Client, deque[T]] = {}
        self._turns = Turns()
        self._changed = threading.Condition()

    def put(self, message: T) -> None:
        """Add a message."""
        with self._changed:
            self._lines.setdefault(message.client, deque()).append(message)
            self._changed.notify()

    def get(self, timeout: float | None = None) -> T:
        """Take the next message, waiting for one. Raises queue.Empty after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._lines, timeout):
                raise Empty
            client = min(self._lines, key=self._turns.rank)
            line = self._lines[client]
            message = line.popleft()
            if not line:
                del self._lines[client]
            self._turns.serve(client)
            return message

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._lines
