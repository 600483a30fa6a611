"""From a request's options to a `LoadSpec`, and from a `LoadSpec` to the `LoadModel` message."""

from __future__ import annotations

from collections.abc import Sequence

from engine.loading import devices
from engine.loading.derivations import Weights
from engine.loading.devices import Device
from engine.loading.image_tokens import image_tokens
from engine.loading.memory import MemoryPlan
from engine.loading.state import LoadSpec
from engine.messages import CONTEXT_PADDING, LoadModel, RowKernels
from engine.model import Model
from modelfile.parameters import Options
from registry.gguf import GGUFHeader

SMALLEST_CONTEXT = 4
SMALLEST_SEEING_CONTEXT = 2048  # tokens: a picture alone can take more than a small context has
DEFAULT_CONTEXT = 4096
CONTEXT_BY_VRAM = ((47 << 30, 262_144), (23 << 30, 32_768))  # (least bytes on all GPUs together, tokens)
ALIKE = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL"}  # types whose sums do not depend on the rows of a pass
LONE = {"F32", "F16", "BF16"}
BATCH_CPU, BATCH_GPU = 512, 2048  # tokens of one forward pass


def default_context(configured: int, gpus: Sequence[Device], overhead: int) -> int:
    """Tokens of context for requests without `num_ctx`: as `configured`, or (0) by the GPUs' memory.

    `overhead` bytes of each GPU are not for us.
    """
    vram = sum(max(0, gpu.total - overhead) for gpu in gpus)
    by_vram = (context for least, context in CONTEXT_BY_VRAM if vram >= least)
    return configured or next(by_vram, DEFAULT_CONTEXT)


def effective_context(model: Model, options: Options, default: int) -> int:
    """Tokens of context that a request gets: what it asks for or `default`, at most what the model was trained for."""
    smallest = SMALLEST_SEEING_CONTEXT if "vision" in model.capabilities else SMALLEST_CONTEXT
    num_ctx = max(default if options.num_ctx is None else options.num_ctx, smallest)
    return min(num_ctx, model.context_length) if model.context_length else num_ctx


def load_spec(
    model: Model, weights: Weights, options: Options, num_ctx: int, gpus: int, *, evicts: bool = True
) -> LoadSpec:
    """How the model must be loaded on a machine with `gpus` GPUs; options without effect there are dropped.

    `evicts`: other models may be unloaded for it.
    """
    return LoadSpec(
        key=str(model.weights),
        num_ctx=num_ctx,
        num_ctx_auto=options.num_ctx_auto,
        num_gpu=options.num_gpu if gpus else -1,
        main_gpu=options.main_gpu if 0 < (options.main_gpu or 0) < gpus else None,
        use_mmap=options.use_mmap,
        adapters=tuple(map(str, model.adapters)),
        projector=str(weights.projector or ""),
        evicts=evicts,
    )


def row_kernels(header: GGUFHeader) -> RowKernels:
    """How the CPU multiplies single rows with the model's matrices, as far as their types tell."""
    types = {tensor.type for tensor in header.tensors if len(tensor.shape) > 1}
    if types - LONE - ALIKE:
        return "counted"
    return "lone" if types & LONE else "alike"


def load_message(
    model: Model,
    weights: Weights,
    spec: LoadSpec,
    plan: MemoryPlan,
    flash_attention: bool | None,
    *,
    lookup: bool = True,
) -> LoadModel:
    """The message that loads a model as planned; `flash_attention` None lets llama.cpp choose. Reads the projector.

    `lookup`: whether tokens may be drafted.
    """
    least_tokens, most_tokens = image_tokens(weights, spec.num_ctx)
    placement = plan.placement
    batch = BATCH_GPU if plan.gpu_layers else BATCH_CPU
    if not model.generates:
        batch = 1  # no pass of this context
    return LoadModel(
        path=str(weights.path),
        n_ctx=plan.num_ctx,
        n_cells=plan.n_cells if model.generates else CONTEXT_PADDING,
        n_parallel=plan.n_parallel,
        n_batch=max(batch, plan.n_parallel),
        n_threads=devices.compute_threads(),
        n_gpu_layers=plan.gpu_layers,
        devices=tuple(share.device.handle for share in placement.gpus),
        tensor_split=tuple(share.layers for share in placement.gpus),
        cpu_experts=placement.cpu_experts,
        use_mmap=spec.use_mmap,
        adapters=spec.adapters,
        cache_type=plan.types.keys,
        cache_type_v=plan.types.values,
        flash_attention=-1 if flash_attention is None else int(flash_attention),
        embedding=plan.embedding,
        overrides=tuple(weights.overrides.items()),
        prompt_cache=plan.prompt_cache,
        rows=row_kernels(weights.header),
        projector=spec.projector,
        image_min_tokens=least_tokens,
        image_max_tokens=most_tokens,
        row_cache=plan.row_cache,
        swa_full=plan.swa_full,
        lookup="auto" if lookup else "off",
    )
