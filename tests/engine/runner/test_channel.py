"""Both ends of the socket, in one process."""

from __future__ import annotations

import json
import socket
import threading
from array import array
from collections.abc import Iterator
from typing import NoReturn

import msgspec
import pytest

from engine import messages
from engine.embed_messages import Embed
from engine.messages import (
    FRAME_HEADER,
    Cancel,
    Constrain,
    Detokenize,
    Failed,
    FromRunner,
    Grammar,
    LoadModel,
    Ping,
    Report,
    Text,
    Tokenize,
    Tokens,
    ToRunner,
    encode_frame,
    from_runner_decoder,
)
from engine.runner import channel as channel_module
from engine.runner.channel import Channel, LateGrammar
from engine.runner.embed_request import EmbedJob
from engine.runner.llamacpp import AbortFlag
from engine.runner.matcher import Matcher
from engine.runner.sequence import Sequence
from engine.runner.vocabulary import Vocabulary
from engine.stats import Stats
from tests.engine.runner.harness import load, submit

SLOW_TEXT = "the quick brown fox " * 100_000  # takes long to tokenise, and is not refused


STATS = Stats(busy=True, steps=11, running=2, waiting=3, cached_tokens=99)


class Counts:
    interruptible = frozenset({7})

    def stats(self) -> Stats:
        return STATS


class Parent:
    """The other end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, *messages: ToRunner) -> None:
        self.sock.sendall(b"".join(map(encode_frame, messages)))

    def receive(self) -> list[FromRunner]:
        """The next frame, but for reports that nobody has asked for."""
        while (events := self.receive_any()) == [Report(0, STATS)]:
            pass
        return events

    def receive_any(self) -> list[FromRunner]:
        (size,) = FRAME_HEADER.unpack(self.sock.recv(FRAME_HEADER.size, socket.MSG_WAITALL))
        return from_runner_decoder.decode(self.sock.recv(size, socket.MSG_WAITALL))


def park() -> NoReturn:
    """Where the real one ends the process, this thread ends its work."""
    while True:
        threading.Event().wait()


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Parent]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(theirs, leave=park), Parent(ours)
        ours.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def abort() -> AbortFlag:
    return AbortFlag()


@pytest.fixture
def served(pair: tuple[Channel, Parent], vocabulary: Vocabulary, abort: AbortFlag) -> tuple[Channel, Parent]:
    pair[0].serve(vocabulary, abort, Counts(), 1024)
    return pair


def numbered(id: int, prompt: str = "Hello") -> ToRunner:
    return msgspec.structs.replace(submit(prompt), id=id)


def taken(channel: Channel) -> int:
    item = channel.take(block=True)
    assert isinstance(item, Sequence)
    item.sampler.close()
    return item.id


def test_the_first_message_says_what_to_load(pair: tuple[Channel, Parent]) -> None:
    channel, parent = pair
    parent.send(load())
    assert isinstance(channel.receive_load(), LoadModel)
    parent.send(Ping(1))
    with pytest.raises(TypeError, match="Ping"):
        channel.receive_load()


def test_prompts_arrive_as_sequences_in_order(served: tuple[Channel, Parent]) -> None:
    channel, parent = served
    parent.send(numbered(1), numbered(2))
    assert [taken(channel), taken(channel)] == [1, 2]
    assert channel.take(block=False) is None


def test_a_cancelled_prompt_never_arrives(served: tuple[Channel, Parent]) -> None:
    channel, parent = served
    parent.send(numbered(1, SLOW_TEXT), numbered(2, SLOW_TEXT), Cancel(2), numbered(3), Cancel(1), numbered(4))
    assert [taken(channel), taken(channel)] == [3, 4]
    assert channel.take(block=False) is None


def test_cancels_of_what_has_arrived_are_passed_on(served: tuple[Channel, Parent], abort: AbortFlag) -> None:
    channel, parent = served
    parent.send(numbered(1))
    assert taken(channel) == 1
    parent.send(Cancel(1))
    assert channel.take(block=True) == Cancel(1)
    assert not abort.is_set()


def test_the_cancel_of_a_prefill_aborts_the_pass(served: tuple[Channel, Parent], abort: AbortFlag) -> None:
    channel, parent = served
    parent.send(Cancel(7), Ping(1))
    parent.receive()
    assert abort.is_set()
    assert channel.take(block=True) == Cancel(7)


def test_reports_come_while_there_are_requests_and_once_after(
    pair: tuple[Channel, Parent], vocabulary: Vocabulary, abort: AbortFlag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "REPORT_INTERVAL", 0.01)
    told = iter([STATS, STATS, Stats(steps=12), STATS])
    counts = Counts()
    monkeypatch.setattr(counts, "stats", lambda: next(told))
    channel, parent = pair
    channel.serve(vocabulary, abort, counts, 1024)
    parent.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        parent.receive_any()
    parent.sock.settimeout(60)
    parent.send(numbered(1))
    assert taken(channel) == 1
    assert [parent.receive_any() for _ in range(3)] == [[Report(0, s)] for s in (STATS, STATS, Stats(steps=12))]
    parent.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        parent.receive_any()


def test_pings_are_answered_while_a_text_is_tokenised(served: tuple[Channel, Parent]) -> None:
    _, parent = served
    parent.send(Tokenize(1, SLOW_TEXT), Ping(2))
    assert parent.receive() == [Report(2, STATS)]
    (tokens,) = parent.receive()
    assert isinstance(tokens, Tokens)


def test_short_texts_do_not_wait_for_long_ones(served: tuple[Channel, Parent]) -> None:
    channel, parent = served
    parent.send(numbered(1, SLOW_TEXT), numbered(2), Tokenize(3, "Hello there"))
    assert [taken(channel), taken(channel)] == [2, 1]


def test_a_clients_text_does_not_wait_for_all_of_anothers(served: tuple[Channel, Parent]) -> None:
    _, parent = served
    texts = [Tokenize(n, SLOW_TEXT[n:], limit=0, client=("a", str(n % 2))) for n in range(1, 6)]
    parent.send(*texts, Tokenize(9, SLOW_TEXT, limit=0, client=("b", "")))
    answered = [event.id for _ in range(6) for event in parent.receive() if isinstance(event, Tokens)]
    assert answered.index(9) <= 1
    assert sorted(answered) == [1, 2, 3, 4, 5, 9]


def test_texts_and_tokens(served: tuple[Channel, Parent]) -> None:
    _, parent = served
    parent.send(Tokenize(1, "Hello there"))
    (tokens,) = parent.receive()
    assert isinstance(tokens, Tokens)
    assert tokens.count == len(tokens.tokens) // 4
    parent.send(Tokenize(3, "Hello there", limit=0))
    assert parent.receive() == [Tokens(3, tokens.count)]
    ids = array("i", tokens.tokens).tolist()
    parent.send(Detokenize(2, ids))
    assert parent.receive() == [Text(2, "Hello there")]
    parent.send(Detokenize(4, [*ids, 1 << 30, -1]))
    assert parent.receive() == [Text(4, "Hello there", invalid=len(ids))]
    parent.send(Tokenize(5, "Hello there<|im_end|>", parse_special=False, pieces=True))
    (plain,) = parent.receive()
    assert isinstance(plain, Tokens)
    assert plain.count > len(ids) + 1
    assert b"".join(plain.pieces) == b"Hello there<|im_end|>"


def test_what_is_too_large_for_a_frame_is_split_or_fails_alone(
    served: tuple[Channel, Parent], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, parent = served
    monkeypatch.setattr(messages, "MAX_FRAME", 64)
    channel.send([Text(1, "a" * 40), Text(2, "b" * 40), Text(3, "c" * 70)])
    assert parent.receive() == [Text(1, "a" * 40)]
    assert parent.receive() == [Text(2, "b" * 40)]
    (failed,) = parent.receive()
    assert isinstance(failed, Failed)
    assert (failed.id, failed.kind) == (3, "request")


def test_a_refused_prompt_fails_alone(served: tuple[Channel, Parent]) -> None:
    channel, parent = served
    refused = msgspec.structs.replace(submit("word " * 2000), id=1, overflow="reject")
    parent.send(refused, numbered(2))
    (failed,) = parent.receive()
    assert isinstance(failed, Failed)
    assert (failed.id, failed.kind) == (1, "context")
    assert taken(channel) == 2


def test_texts_for_vectors_arrive_in_one_piece_or_are_refused(served: tuple[Channel, Parent]) -> None:
    channel, parent = served
    texts = ["one", "two three four"]
    parent.send(Embed(1, texts, 2, False, 0, True, 0), Embed(2, texts, 9, False, 0, True, 0), Cancel(2))
    parent.send(Embed(3, texts, 2, True, 0, True, 0))
    assert parent.receive() == [Failed(1, "context", "the input length exceeds the context length: input[1]", limit=2)]
    job = channel.take(block=True)
    if isinstance(job, EmbedJob) and job.id == 2:  # its tokens were there before the cancel came
        assert channel.take(block=True) == Cancel(2)
        job = channel.take(block=True)
    assert isinstance(job, EmbedJob)
    assert (job.id, [len(text.tokens) for text in job.texts]) == (3, [1, 2])


@pytest.mark.parametrize("unread", [[], [Text(1, "nobody reads this")]])
def test_it_leaves_when_the_parent_goes(unread: list[FromRunner], vocabulary: Vocabulary, abort: AbortFlag) -> None:
    ours, theirs = socket.socketpair()
    left = threading.Event()

    def leave() -> NoReturn:
        left.set()
        park()

    channel = Channel(theirs, leave)
    channel.serve(vocabulary, abort, Counts(), 1024)
    if unread:
        channel.send(unread)
    ours.close()
    assert left.wait(10)
    theirs.close()


def test_a_prompt_with_a_grammar_arrives_with_its_beginning(served: tuple[Channel, Parent]) -> None:
    channel, parent = served
    parent.send(msgspec.structs.replace(submit("Hi"), id=1, grammar=Grammar('start: "yes" | "no"')))
    item = channel.take(block=True)
    assert isinstance(item, Sequence)
    assert item.sampler.grammar is not None
    item.sampler.close()


def test_a_grammar_that_is_none_is_refused(served: tuple[Channel, Parent]) -> None:
    channel, parent = served
    parent.send(msgspec.structs.replace(submit("Hi"), id=1, grammar=Grammar("start: nothing")), numbered(2))
    (failed,) = parent.receive()
    assert isinstance(failed, Failed)
    assert (failed.id, failed.kind) == (1, "request")
    assert taken(channel) == 2


def test_a_grammar_that_takes_long_holds_up_nobody_else(served: tuple[Channel, Parent]) -> None:
    channel, parent = served
    patterns = {f"^{n}(a|b)*$": {"type": "string"} for n in range(150)}
    slow = Grammar(f"start: %json {json.dumps({'type': 'object', 'patternProperties': patterns})}")
    parent.send(msgspec.structs.replace(submit("Hi"), id=1, grammar=slow), numbered(2))
    assert [taken(channel), taken(channel)] == [2, 1]


def test_grammars_whose_ends_are_far_take_turns_with_others(
    served: tuple[Channel, Parent], monkeypatch: pytest.MonkeyPatch
) -> None:
    first_end, over = Matcher.find_first_end, threading.Event()

    def endless(matcher: Matcher) -> Iterator[None]:
        if matcher._left != 7:
            yield from first_end(matcher)
            return
        while not over.is_set():
            yield

    monkeypatch.setattr(Matcher, "find_first_end", endless)
    channel, parent = served
    yes = Grammar('start: "yes" | "no"')

    def held(id: int, tokens: int) -> ToRunner:
        return msgspec.structs.replace(submit("Hi", num_predict=tokens), id=id, grammar=yes)

    parent.send(held(1, 7), held(2, 20))
    assert taken(channel) == 2
    parent.send(*(held(id, 7) for id in range(10, 40)), held(3, 20))
    parent.send(Cancel(1), *(Cancel(id) for id in range(10, 40)))
    assert taken(channel) == 3
    over.set()


LATE = Grammar('start: "<call>" "yes"', whole=False)


def test_a_late_grammar_arrives_behind_its_request(served: tuple[Channel, Parent]) -> None:
    channel, parent = served
    parent.send(numbered(1, SLOW_TEXT), Constrain(1, LATE), numbered(2), Constrain(2, LATE))
    arrived = []
    for _ in range(4):
        item = channel.take(block=True)
        assert isinstance(item, Sequence | LateGrammar)
        arrived.append((item.id, type(item)))
        if isinstance(item, Sequence):
            item.sampler.close()
    for number in (1, 2):
        assert [kind for id, kind in arrived if id == number] == [Sequence, LateGrammar]


def test_a_late_grammar_of_a_cancelled_request_is_dropped(served: tuple[Channel, Parent]) -> None:
    channel, parent = served
    parent.send(numbered(1, SLOW_TEXT), Constrain(1, LATE), Constrain(9, LATE))
    late = channel.take(block=True)
    assert isinstance(late, LateGrammar)
    assert late.id == 9, "the first one waits for its request"
    parent.send(Cancel(1), numbered(2))
    assert taken(channel) == 2
    assert channel._early_grammars == {}
    parent.send(Tokenize(3, SLOW_TEXT))
    parent.receive()  # behind the first one: nothing works on when the test ends


def test_a_late_grammar_that_is_none_leaves_the_answer_free(served: tuple[Channel, Parent]) -> None:
    channel, parent = served
    parent.send(numbered(1), Constrain(1, Grammar("start: nothing", whole=False)))
    assert taken(channel) == 1
    assert channel.take(block=True) == LateGrammar(1, None)


@pytest.mark.parametrize(("busy", "prepared"), [(0, True), (1, False)])
def test_what_is_slow_for_grammars_is_done_while_nothing_happens(
    pair: tuple[Channel, Parent], vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, busy: int, *, prepared: bool
) -> None:
    done, looked = threading.Event(), threading.Event()

    class Quiet(Counts):
        def stats(self) -> Stats:
            looked.set()
            return Stats(steps=11, running=busy)

    monkeypatch.setattr("engine.runner.channel._IDLE", 0.01)
    monkeypatch.setattr("engine.runner.grammar.Grammars.prepare", lambda _: done.set())
    channel, parent = pair
    channel.serve(vocabulary, AbortFlag(), Quiet(), 1024)
    assert not done.wait(0.1), "there was no answer yet"
    parent.send(numbered(1))
    assert taken(channel) == 1
    looked.clear()
    assert looked.wait(10)
    assert done.wait(10 if prepared else 0.2) is prepared
