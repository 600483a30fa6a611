"""Stop texts of widespread chat templates, known by the templates' digests. Facts.

In most of these formats turns begin with plain words, not with an end token: without stop texts a model goes on with
the next question. A template that is merely similar may mark turns differently, so only exact digests count.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

_LENGTH: Final = 16  # hexadecimal digits of a digest to compare


class _Format(NamedTuple):
    stops: tuple[str, ...]
    digests: tuple[str, ...]


_FORMATS: Final = {
    "alfred": _Format(
        ("<start_system>", "<end_message>", "<start_user>", "<start_assistant>"),
        ("071cfb2d4c797ad4",),
    ),
    "alpaca": _Format(("### Instruction:", "### Response"), ("993c0af704bad76a",)),
    "chatml": _Format(
        ("<|im_start|>", "<|im_end|>"),
        (
            *("91aa728ae59c8e30", "58c1a1f04baa7ada", "3ce2fe9753f9a77a", "a805e50fed68938a", "153280e3ff55d19d"),
            *("793202280c0910ab", "af9c0233881b083b", "e6f6e5c192657d16", "f42d04ffb2e487fa", "f02c534193010c4b"),
            "faf1f8b675beeabd",
        ),
    ),
    "chatqa": _Format(
        ("System:", "User:", "Assistant:", "<|begin_of_text|>"), ("8aeba567270fa9a8", "cd3636885332999f")
    ),
    "codellama-70b": _Format(("Source:", "Destination:", "<step>"), ("75678d4630858651",)),
    "command-r": _Format(("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"), ("9db2cf47ce03bfd0",)),
    "falcon": _Format(("User:", "Assistant:"), ("2c575663fbb6c03a", "f6084d6ec1cb3238")),
    "gemma": _Format(("<start_of_turn>", "<end_of_turn>"), ("ecd6ae513fe103f0",)),
    "gemma3": _Format(("<end_of_turn>",), ("7de1c58e208eda46",)),
    "granite": _Format(("System:", "Question:", "Answer:"), ("e84ee90c8a81a15d",)),
    "llama2": _Format(("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"), ("ea2472f29dbd93c3", "e8d5b5a546d3f19d")),
    "llama3": _Format(
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), ("ba03a121d097859c", "e10ca381b1ccc5cf")
    ),
    "magicoder": _Format(("@@ Instruction", "@@ Response"), ("230527c8a608cf3a",)),
    "openchat": _Format(("<|end_of_turn|>",), ("901b10d47195fadb",)),
    "phi-3": _Format(
        ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
        ("605841622bcb6572", "268b6082ceb7176d", "b0e53f5e7bae6fdb"),
    ),
    "solar": _Format(("### System:", "### User:", "### Assistant"), ("b8e5e922a7a4ab5d",)),
    "starcoder2": _Format(("### Instruction", "### Response", "<|endoftext|>"), ("6de66c5b4eb23df8",)),
    "zephyr": _Format(("<|system|>", "</s>", "<|user|>", "<|assistant|>"), ("66291cf0045c2425", "bf61473d7119388a")),
}
_STOPS: Final = {digest: format_.stops for format_ in _FORMATS.values() for digest in format_.digests}


def known_stops(chat_template: str) -> tuple[str, ...]:
    """The stop texts for a chat template; empty for an unknown one."""
    return _STOPS.get(hashlib.sha256(chat_template.encode()).hexdigest()[:_LENGTH], ())
