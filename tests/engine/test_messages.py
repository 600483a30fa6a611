"""Frames, and the promise that both sides name things as the options' table does."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from engine.messages import (
    FRAME_HEADER,
    Chunk,
    Done,
    Sampling,
    ScoredChunk,
    ScoredToken,
    Submit,
    encode_frame,
    from_runner_decoder,
    to_runner_decoder,
)
from modelfile.parameters import Options


def body(frame: bytes) -> bytes:
    (size,) = FRAME_HEADER.unpack_from(frame)
    assert len(frame) == FRAME_HEADER.size + size
    return frame[FRAME_HEADER.size :]


def test_messages_come_back() -> None:
    submit = Submit(1, "é🎉", 4096, -1, 4, True, "cut", ("a", "b"), Sampling(logit_bias=((1, 2.5),)))
    assert to_runner_decoder.decode(body(encode_frame(submit))) == submit
    scored = ScoredChunk(1, "", 2, True, (ScoredToken(b"\xc3", -0.5), ScoredToken(b"\xa9", -1.0, ((b"", -2.0),))))
    events = [Chunk(1, "é", 3), scored, Done(1, "length", 5, 4, 10, 3, 20, "x")]
    assert from_runner_decoder.decode(body(encode_frame(events))) == events


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x90", msgspec.msgpack.encode([99, 1]), msgspec.msgpack.encode([2, "x"])]
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        to_runner_decoder.decode(data)


def test_sampling_has_the_names_and_defaults_of_the_options() -> None:
    options = {field.name: field.default for field in dataclasses.fields(Options)}
    for field in msgspec.structs.fields(Sampling):
        assert options[field.name] == field.default
