"""A model's vocabulary: text to tokens and back."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence

from engine.runner.llamacpp import C


class Vocabulary:
    """One model's vocabulary; valid as long as the model. `handle` is its C pointer, `end` the end-of-sequence token.

    Safe from any thread, except `piece` and `ends`: they cache, as the loop thread asks for every sampled token.
    """

    def __init__(self, model: C.llama_model_p) -> None:
        self.handle: int = C.llama_model_get_vocab(model)
        self.size: int = C.llama_vocab_n_tokens(self.handle)
        self.adds_bos: bool = C.llama_vocab_get_add_bos(self.handle)
        self.end: int = max(C.llama_vocab_eos(self.handle), 0)
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> array[int]:
        """A text's token ids; `parse_special`: special tokens in it are no text; `add_special` adds those around it."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        while True:
            tokens = array("i", bytes(4 * size))
            buffer = (C.llama_token * size).from_buffer(tokens)
            n: int = C.llama_tokenize(self.handle, data, len(data), buffer, size, add_special, parse_special)
            del buffer  # an exported array cannot be resized
            if n >= 0:
                del tokens[n:]
                return tokens
            size = -n

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones written out; ids outside the vocabulary are skipped."""
        pieces = (self.render(t, special=True) for t in tokens if 0 <= t < self.size)
        return b"".join(pieces).decode("utf-8", "replace")

    def first_invalid(self, tokens: Sequence[int]) -> int:
        """The place of the first id outside the vocabulary, -1 if there is none."""
        return next((place for place, token in enumerate(tokens) if not 0 <= token < self.size), -1)

    def preserved(self, texts: Sequence[str]) -> dict[int, bytes]:
        """The texts that are exactly one token each, as token → bytes."""
        tokenized = ((self.tokenize(text, add_special=False), text) for text in texts)
        return {tokens[0]: text.encode() for tokens, text in tokenized if len(tokens) == 1}

    def piece(self, token: int) -> bytes:
        """The bytes that a sampled token adds to the text: none for control tokens. Cached; loop thread only."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self.render(token)
        return piece

    def ends(self, token: int) -> bool:
        """Whether a token ends the generation. Cached; loop thread only."""
        ends = self._ends.get(token)
        if ends is None:
            ends = self._ends[token] = C.llama_vocab_is_eog(self.handle, token)
        return ends

    def end_tokens(self) -> list[int]:
        """All tokens that end the generation."""
        return [token for token in range(self.size) if C.llama_vocab_is_eog(self.handle, token)]

    def render(self, token: int, *, special: bool = False) -> bytes:
        """A token's bytes, not cached; `special`: control tokens give their names instead of nothing."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = C.llama_token_to_piece(self.handle, token, buffer, size, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            size = -n
