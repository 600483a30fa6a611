"""A model's vocabulary: text to tokens and back."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence

from engine.runner.llamacpp import C


class Vocabulary:
    """Reads one model's vocabulary; valid as long as the model. `handle` is its C pointer, for the samplers;
    `end` the token that ends a text.

    Tokenising and detokenising are safe from any thread; `piece` and `ends` belong to the loop thread, which asks
    for every token of every answer and has them remembered.
    """

    def __init__(self, model: C.llama_model_p) -> None:
        self.handle: int = C.llama_model_get_vocab(model)
        self.size: int = C.llama_vocab_n_tokens(self.handle)
        self.adds_bos: bool = C.llama_vocab_get_add_bos(self.handle)
        self.end: int = max(C.llama_vocab_eos(self.handle), 0)
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    def tokenize(self, text: str, *, add_special: bool) -> array[int]:
        """A text's token ids; special tokens written in the text are taken as such."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        while True:
            tokens = array("i", bytes(4 * size))
            buffer = (C.llama_token * size).from_buffer(tokens)
            n: int = C.llama_tokenize(self.handle, data, len(data), buffer, size, add_special, True)
            del buffer  # an array that is lent out cannot change its length
            if n >= 0:
                del tokens[n:]
                return tokens
            size = -n

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones written out. Ids outside the vocabulary are left out."""
        known = (self.render(t, special=True) for t in tokens if 0 <= t < self.size)
        return b"".join(known).decode("utf-8", "replace")

    def preserved(self, texts: Sequence[str]) -> dict[int, bytes]:
        """The tokens that are exactly one of these texts, with the bytes of it."""
        tokens = ((self.tokenize(text, add_special=False), text) for text in texts)
        return {found[0]: text.encode() for found, text in tokens if len(found) == 1}

    def piece(self, token: int) -> bytes:
        """The bytes that a generated token adds to the text: nothing for control tokens."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self.render(token)
        return found

    def ends(self, token: int) -> bool:
        """Whether the token ends the generation."""
        found = self._ends.get(token)
        if found is None:
            found = self._ends[token] = C.llama_vocab_is_eog(self.handle, token)
        return found

    def end_tokens(self) -> list[int]:
        """All tokens that end the generation; safe from any thread."""
        return [token for token in range(self.size) if C.llama_vocab_is_eog(self.handle, token)]

    def render(self, token: int, *, special: bool = False) -> bytes:
        """As `piece`, safe from any thread and not remembered; `special`: control tokens by their names."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = C.llama_token_to_piece(self.handle, token, buffer, size, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            size = -n
