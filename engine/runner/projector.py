"""A model's eyes and ears: the projector file (`mmproj`), with which libmtmd turns pictures and sounds into rows."""

from __future__ import annotations

import ctypes
import threading
from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.messages import LoadModel
from engine.runner.batch import Positions, Rows
from engine.runner.llamacpp import C, LibraryLog, multimodal
from engine.runner.media import MediaRejected, Medium, Picture, PictureSize

TEXT, SOUND = 0, 2  # `mtmd_input_chunk_type`; 1 is an image
SECTIONS = 4  # positions of each row with M-RoPE: time, height, width, and one that is not used
PLACEHOLDERS = ((64, 64), (1024, 1024), (4096, 4096), (4096, 1024), (1024, 4096))
"""Sizes of pictures (width, height) by which the largest number of rows is found."""
ASKED_NODE = 16  # every so many nodes of the encoder's graph it may be stopped


class EncodeStopped(Exception):
    """An encode was given up, as its caller had wished."""


class ProjectorError(RuntimeError):
    """libmtmd refused the file. The message is for users and names no file."""


@dataclass(eq=False, slots=True)
class MediaChunk:
    """A part of a medium that is encoded at once: `n_tokens` rows, which take `n_pos` positions.

    `medium` is the medium's number in its prompt. `positions` are those of its rows behind position 0, sections × rows;
    each section moves by `moves` with the position. `whole`: its rows see each other, so they must be in one
    micro-batch. `handle` is libmtmd's chunk, freed with this object.
    """

    handle: int
    medium: int
    n_tokens: int
    n_pos: int
    positions: Positions
    moves: Positions
    whole: bool
    free: Callable[[int], None] = field(repr=False)

    def positions_at(self, start: int) -> Positions:
        """The positions of its rows if the first one's is `start`: int32, sections × rows."""
        return self.positions + self.moves * np.int32(start)

    def __del__(self) -> None:
        self.free(self.handle)


@dataclass(frozen=True, slots=True)
class Span:
    """The place of a chunk in a prompt: its first entry and that one's position. Equal keys mean equal rows.

    `chunk` need not have the picture's pixels; `to_encode` makes one that has, and raises MediaRejected.
    """

    start: int
    position: int
    key: Hashable
    chunk: MediaChunk
    to_encode: Callable[[], MediaChunk] = field(repr=False, compare=False)

    @property
    def end(self) -> int:
        """The first entry behind it."""
        return self.start + self.chunk.n_tokens


def _never() -> bool:
    return False


def _refusal(reason: str) -> str:
    """What users read of a projector that does not load: as Ollama says it, without the function that found it."""
    why = reason.split("error:", 1)[-1].split("\n")[0].strip(" :")
    return f"llama-server process has terminated: exit status 1: error: {why or 'the projector cannot be loaded'}"


class Projector:
    """A projector that was loaded beside its text model. `close` frees it, after all chunks.

    `sees`, `hears`: what it takes; `rate` in samples per second. `largest_whole` is the most rows that must be in one
    micro-batch, 0 if there are no such. `nodes` counts what has been computed: it grows while an encode lives. Chunks
    may be made on any thread, also while `encode` runs on another one.
    """

    def __init__(self, spec: LoadModel, model: C.llama_model_p, library_log: LibraryLog, *, on_gpu: bool) -> None:
        """Raises ProjectorError."""
        self._m = m = multimodal()
        m.mtmd_helper_log_set(library_log.callback, None)
        self._width: int = C.llama_model_n_embd_inp(model)
        self._stopped: Callable[[], bool] = _never
        self._was_stopped = False
        self._tokenizing = threading.Lock()
        self.nodes = 0
        params = m.mtmd_context_params_default()
        params.use_gpu = on_gpu
        params.print_timings = params.warmup = False
        params.n_threads = spec.n_threads
        params.flash_attn_type = spec.flash_attention
        params.image_min_tokens = spec.image_min_tokens
        params.image_max_tokens = spec.image_max_tokens
        self._ask = C.ggml_backend_sched_eval_callback(self._evaluated)  # must stay referenced
        params.cb_eval = self._ask
        self._ctx: Any = m.mtmd_init_from_file(spec.projector.encode(), model, params)
        if not self._ctx:
            raise ProjectorError(_refusal(library_log.reason("", (spec.projector,))))
        self.sees: bool = m.mtmd_support_vision(self._ctx)
        self.hears: bool = m.mtmd_support_audio(self._ctx)
        self.rate: int = m.mtmd_get_audio_sample_rate(self._ctx) if self.hears else 0
        self._mrope: bool = m.mtmd_decode_use_mrope(self._ctx)
        self.largest_whole = self._largest_whole() if self.sees else 0

    def tokens_and_chunks(self, parts: Sequence[str | Medium]) -> Iterator[array[int] | MediaChunk]:
        """What becomes of a prompt: tokens of texts and chunks of media, in order. Raises MediaRejected."""
        yield from self._divided(self.chunk_list(parts))

    def chunk_list(self, parts: Sequence[str | Medium]) -> int:
        """libmtmd's own list of a prompt's chunks, to be freed. Raises MediaRejected."""
        bitmaps = [None if isinstance(part, str) else self._bitmap(part) for part in parts]
        made = [bitmap for bitmap in bitmaps if bitmap is not None]
        for number, bitmap in enumerate(made):
            self._m.mtmd_bitmap_set_id(bitmap, b"%d" % number)
        try:
            return self._tokenized(parts, bitmaps)
        finally:
            for bitmap in made:
                self._m.mtmd_bitmap_free(bitmap)

    def encode(self, chunk: MediaChunk, stopped: Callable[[], bool]) -> Rows | None:
        """A chunk's rows: float32, rows × width; None if it failed. One at a time.

        `stopped` is asked often; once it has said True, EncodeStopped is raised.
        """
        self._stopped, self._was_stopped = stopped, False
        code = self._m.mtmd_encode_chunk(self._ctx, chunk.handle)
        self._stopped = _never
        if self._was_stopped:  # the code is 0, the rows are rubbish
            raise EncodeStopped
        if code:
            return None
        pointer = self._m.mtmd_get_output_embd(self._ctx)
        try:
            rows: Rows = np.ctypeslib.as_array(pointer, (chunk.n_tokens, self._width)).copy()
        except MemoryError:
            return None
        return rows if np.isfinite(rows).all() else None

    def close(self) -> None:
        """Free it; nothing of it may be used afterwards."""
        self._m.mtmd_free(self._ctx)

    def _evaluated(self, _tensor: object, ask: bool, _data: object) -> bool:
        """Called before each node of a graph to `ask` whether to call again behind it; then False ends the graph."""
        if ask:
            self.nodes += 1
            return self.nodes % ASKED_NODE == 0
        self._was_stopped |= self._stopped()
        return not self._was_stopped

    def _bitmap(self, medium: Medium) -> int:
        if isinstance(medium, PictureSize):
            return int(self._m.mtmd_bitmap_init(medium.width, medium.height, None))
        if isinstance(medium, Picture):
            height, width, _ = medium.pixels.shape
            pixels = np.ascontiguousarray(medium.pixels)
            bitmap = self._m.mtmd_bitmap_init(width, height, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
        else:
            samples = np.ascontiguousarray(medium.samples)
            pointer = samples.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            bitmap = self._m.mtmd_bitmap_init_from_audio(len(samples), pointer)
        return int(bitmap)

    def _tokenized(self, parts: Sequence[str | Medium | None], bitmaps: Sequence[int | None]) -> int:
        """libmtmd's list of chunks, to be freed. Raises MediaRejected."""
        m = self._m
        made = (m.mtmd_input_part * len(parts))()
        texts = []  # referenced until libmtmd has read them
        for row, part, bitmap in zip(made, parts, bitmaps, strict=True):
            if isinstance(part, str):
                data = part.encode("utf-8", "replace")
                text = m.mtmd_input_text(text=data, text_len=len(data), add_special=False, parse_special=True)
                texts.append((data, text))
                row.text = ctypes.pointer(text)
            else:
                row.bitmap = bitmap
        pointers = (ctypes.POINTER(m.mtmd_input_part) * len(parts))(*map(ctypes.pointer, made))
        chunks: int = m.mtmd_input_chunks_init()
        with self._tokenizing:
            code = m.mtmd_tokenize_from_parts(self._ctx, chunks, pointers, len(parts), True)
        if code:
            m.mtmd_input_chunks_free(chunks)
            raise MediaRejected("Failed to tokenize prompt")
        return chunks

    def _divided(self, chunks: int) -> Iterator[array[int] | MediaChunk]:
        m = self._m
        try:
            for index in range(m.mtmd_input_chunks_size(chunks)):
                chunk = m.mtmd_input_chunks_get(chunks, index)
                if m.mtmd_input_chunk_get_type(chunk) == TEXT:
                    count = ctypes.c_size_t()
                    pointer = m.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
                    yield array("i", pointer[: count.value])
                else:
                    yield self._copied(chunk)
        finally:
            m.mtmd_input_chunks_free(chunks)

    def _copied(self, chunk: int) -> MediaChunk:
        """A chunk of a medium that outlives its list."""
        m = self._m
        n_tokens: int = m.mtmd_input_chunk_get_n_tokens(chunk)
        n_pos: int = m.mtmd_input_chunk_get_n_pos(chunk)
        if not 0 < n_pos <= n_tokens:
            raise MediaRejected("this model's way of looking at images is not supported yet")
        positions = self._positions(chunk, n_tokens, 0)
        return MediaChunk(
            handle=m.mtmd_input_chunk_copy(chunk),
            medium=int(m.mtmd_input_chunk_get_id(chunk) or 0),
            n_tokens=n_tokens,
            n_pos=n_pos,
            positions=positions,
            moves=self._positions(chunk, n_tokens, 1) - positions,
            whole=m.mtmd_decode_use_non_causal(self._ctx, chunk),
            free=m.mtmd_input_chunk_free,
        )

    def _positions(self, chunk: int, n_tokens: int, start: int) -> Positions:
        m = self._m
        places = np.arange(start, start + n_tokens, dtype=np.int32)[None, :]
        if not self._mrope:
            return places
        if m.mtmd_input_chunk_get_type(chunk) == SOUND:
            return np.repeat(places, SECTIONS, axis=0)
        decoder = (m.mtmd_decoder_pos * n_tokens)()
        m.mtmd_helper_image_get_decoder_pos(m.mtmd_input_chunk_get_tokens_image(chunk), start, decoder)
        table = np.frombuffer(decoder, np.uint32).reshape(n_tokens, SECTIONS).astype(np.int32)  # t, x, y, z
        return np.ascontiguousarray(table[:, [0, 2, 1, 3]].T)

    def _largest_whole(self) -> int:
        """The most rows of one chunk whose rows see each other."""
        most = 0
        for width, height in PLACEHOLDERS:
            bitmap = self._m.mtmd_bitmap_init(width, height, None)
            try:
                for part in self._divided(self._tokenized([None], [bitmap])):
                    if isinstance(part, MediaChunk) and part.whole:
                        most = max(most, part.n_tokens)
            finally:
                self._m.mtmd_bitmap_free(bitmap)
        return most
