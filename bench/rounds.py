"""The workloads and how often each is repeated."""

from __future__ import annotations

from dataclasses import dataclass

from bench.workload import Workload

ONE = Workload(streams=1, words=96, tokens=128)
EIGHT = Workload(streams=8, words=96, tokens=64)
SHORT = Workload(streams=1, words=8, tokens=1)
TINY_ONE = Workload(streams=1, words=96, tokens=64)
TINY_EIGHT = Workload(streams=8, words=96, tokens=64)
WARM_UP = Workload(streams=8, words=24, tokens=8)
PREFIX_WORDS = 1200
ENDING_WORDS = 12


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often: runs with decoding, runs to the first token only, shared prefixes, tinychat runs, starts and loads."""

    decode: int = 7
    short: int = 21
    prefix: int = 3
    tiny: int = 41
    loads: int = 5


FULL = Rounds()
QUICK = Rounds(decode=2, short=5, prefix=1, tiny=9, loads=2)
