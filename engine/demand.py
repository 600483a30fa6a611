"""What a request demands of a model's process: how it must be loaded, and how it must generate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from engine.api import InferenceRequest
from engine.chat.prompt import Prompt
from engine.errors import PROMPT_TOO_LONG, ContextExceeded
from engine.loading import devices
from engine.loading.derivations import Weights
from engine.loading.devices import Device
from engine.loading.memory import LONGEST_BESIDE, MemoryPlan
from engine.loading.state import LoadSpec
from engine.messages import Grammar, LoadModel, Sampling, Submit
from engine.model import Model
from modelfile.parameters import Options
from registry.gguf import GGUFArray

SMALLEST_CONTEXT = 4
DEFAULT_CONTEXT = 4096
CONTEXT_BY_VRAM = ((47 << 30, 262_144), (23 << 30, 32_768))  # from so many bytes on all GPUs together
NEVER_SHIFTING = ("deepseek2",)
ALWAYS_TOKENIZED = 4 << 20  # characters of a text that are looked at however small the context is
BATCH_CPU, BATCH_GPU = 512, 2048  # tokens of one forward pass
MOST_TEXT = 64 << 20  # characters that are looked at however large it is
log = logging.getLogger("pronk.engine")


def default_context(configured: int, gpus: Sequence[Device], overhead: int) -> int:
    """Tokens of context where nobody asked for a number."""
    vram = sum(max(0, gpu.total - overhead) for gpu in gpus)
    by_vram = (context for least, context in CONTEXT_BY_VRAM if vram >= least)
    return configured or next(by_vram, DEFAULT_CONTEXT)


def effective_context(model: Model, options: Options, default: int) -> int:
    """Tokens of context that a request gets: what it asks for, within what the model was trained for."""
    wanted = max(default if options.num_ctx is None else options.num_ctx, SMALLEST_CONTEXT)
    return min(wanted, model.context_length) if model.context_length else wanted


def max_embedding_tokens(model: Model, options: Options, num_ctx: int) -> int:
    """Tokens of a text that is to become a vector, in a context of `num_ctx` tokens: here no wish is too small."""
    trained = model.header.size("context_length")
    limits = [num_ctx, num_ctx if options.num_ctx is None else options.num_ctx]
    limits += [trained] if trained else []
    limits += [LONGEST_BESIDE] if model.generates else []
    return min(limits)


def most_text(model: Model, num_ctx: int) -> int:
    """Characters that so many tokens might be at most, if each were the longest that the model knows."""
    tokens = model.header.metadata.get("tokenizer.ggml.tokens")
    longest = tokens.longest if isinstance(tokens, GGUFArray) else 0
    return min(num_ctx * longest, MOST_TEXT) if longest else MOST_TEXT


def both_ends(tokens: Sequence[int], num_ctx: int) -> Sequence[int]:
    """Tokens of which a prompt of `num_ctx` tokens can use the first or the last: without their middle if very many."""
    return tokens if len(tokens) <= 2 * num_ctx else [*tokens[:num_ctx], *tokens[-num_ctx:]]


def load_spec(model: Model, options: Options, num_ctx: int, gpus: int) -> LoadSpec:
    """How the model must be loaded on a machine with so many GPUs; a wish that changes nothing there is none."""
    return LoadSpec(
        key=str(model.weights),
        num_ctx=num_ctx,
        num_ctx_auto=options.num_ctx_auto,
        num_gpu=options.num_gpu if gpus else -1,
        main_gpu=options.main_gpu if 0 < (options.main_gpu or 0) < gpus else None,
        use_mmap=None if options.use_mmap else options.use_mmap,
        adapters=tuple(map(str, model.adapters)),
    )


def load_message(
    model: Model, weights: Weights, spec: LoadSpec, plan: MemoryPlan, cache_type: str, flash_attention: bool | None
) -> LoadModel:
    """The message that loads a model as planned; `flash_attention` None lets llama.cpp choose."""
    batch = BATCH_GPU if plan.gpu_layers else BATCH_CPU
    if not model.generates:
        batch = 1  # what is never used need not be large
    return LoadModel(
        path=str(weights.path),
        n_ctx=spec.num_ctx,
        n_cells=plan.n_cells,
        n_parallel=plan.n_parallel,
        n_batch=max(batch, plan.n_parallel),
        n_threads=devices.compute_threads(),
        n_gpu_layers=plan.gpu_layers,
        main_gpu=spec.main_gpu or 0,
        use_mmap=spec.use_mmap,
        adapters=spec.adapters,
        cache_type=cache_type,
        flash_attention=-1 if flash_attention is None else int(flash_attention),
        embedding=plan.embedding,
        overrides=tuple(weights.overrides.items()),
    )


def clamped(options: Options, n_batch: int) -> Options:
    """The options within the machine and the loaded model, which takes `n_batch` tokens in a pass.

    What asks for more gets what there is, and the log says so.
    """
    if options.num_thread and options.num_thread > (processors := devices.usable_processors()):
        log.warning("num_thread %d: there are %d processors to use; using %d", options.num_thread, *2 * (processors,))
        options = replace(options, num_thread=processors)
    if options.num_batch and options.num_batch > n_batch:
        log.warning("num_batch %d: a pass takes %d tokens at most", options.num_batch, n_batch)
        options = replace(options, num_batch=n_batch)
    return options


def build_submit(
    model: Model,
    request: InferenceRequest,
    options: Options,
    prompt: Prompt,
    num_ctx: int,
    loaded: int,
    preserved: tuple[str, ...],
    grammar: Grammar | None = None,
) -> Submit:
    """The message that starts the generation; the process gives it its id.

    `preserved` are control tokens that the answer's reader needs to see, `grammar` is what the answer is held to.
    Raises ContextExceeded for a prompt that no context of `loaded` tokens could hold.
    """
    if len(prompt.text) > max(ALWAYS_TOKENIZED, most_text(model, loaded)):
        raise ContextExceeded(PROMPT_TOO_LONG)
    shift = model.config.model_family not in NEVER_SHIFTING if request.shift is None else request.shift
    return Submit(
        id=0,
        prompt=prompt.text,
        num_ctx=num_ctx,
        num_predict=options.num_predict,
        num_keep=options.num_keep,
        shift=shift,
        overflow="reject" if prompt.reject_overflow or not request.truncate else "cut",
        stop=options.stop,
        sampling=Sampling(**{name: getattr(options, name) for name in Sampling.__struct_fields__}),
        preserved=preserved,
        grammar=grammar,
        num_thread=options.num_thread,
        num_batch=options.num_batch or 0,
    )
