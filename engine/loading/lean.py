"""What a load does without once there was no memory for it.

The second attempt has one sequence, short forward passes and no prompt cache; the third also a smaller context, if
nobody has set one, and half of the layers on GPUs.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from engine.loading.memory import SMALLER_CONTEXTS, Limits, MemoryPlan
from engine.loading.state import LoadSpec
from engine.messages import LoadModel

WAYS = (
    "one request at once, shorter forward passes, no prompt cache",
    "a smaller context if nobody has set one, half of the layers on GPUs",
)
"""What the second attempt does without, and what the third does without besides."""
BATCH = 128  # tokens of one forward pass
CONTEXTS = (*SMALLER_CONTEXTS, 2048)  # tokens


def lean_limits(limits: Limits, attempt: int) -> Limits:
    """The limits of an attempt, of which 1 is the first."""
    return limits if attempt == 1 else replace(limits, parallel=1, prompt_cache=0)


def lean_spec(spec: LoadSpec, attempt: int) -> LoadSpec:
    """How an attempt loads the model."""
    if attempt < 3 or not spec.num_ctx_auto:
        return spec
    return replace(spec, num_ctx=next((size for size in CONTEXTS if size < spec.num_ctx), spec.num_ctx))


def fewer_layers(spec: LoadSpec, plan: MemoryPlan, attempt: int) -> LoadSpec:
    """The same with fewer layers on GPUs than planned, where an attempt needs that and the request has not set it."""
    layers = plan.placement.gpu_layers
    if attempt < 3 or not layers or spec.num_gpu >= 0:
        return spec
    return replace(spec, num_gpu=layers // 2)


def lean_message(message: LoadModel, attempt: int) -> LoadModel:
    """The message of an attempt."""
    return message if attempt == 1 else msgspec.structs.replace(message, n_batch=min(message.n_batch, BATCH))
