"""A tiny Mamba with random weights: a model that has nothing but a recurrent state."""

from __future__ import annotations

from tests.modelfile.convert.checkpoints import random_weights
from tests.modelfile.published.models import HIDDEN, LAYERS, Model, Shapes, bytewise, embeddings, sizes

INNER, STATE, KERNEL, STEP_RANK = 2 * HIDDEN, 16, 4, 4


def mamba() -> Model:
    """The model."""
    vocabulary = bytewise("default")
    layer: Shapes = {
        "attn_norm.weight": (HIDDEN,),
        "ssm_in.weight": (2 * INNER, HIDDEN),
        "ssm_conv1d.weight": (INNER, KERNEL),
        "ssm_conv1d.bias": (INNER,),
        "ssm_x.weight": (STEP_RANK + 2 * STATE, INNER),
        "ssm_dt.weight": (INNER, STEP_RANK),
        "ssm_dt.bias": (INNER,),
        "ssm_a": (INNER, STATE),
        "ssm_d": (INNER,),
        "ssm_out.weight": (HIDDEN, INNER),
    }
    shapes: Shapes = {"output_norm.weight": (HIDDEN,)} | embeddings(vocabulary, output=True)
    shapes |= {f"blk.{i}.{name}": shape for i in range(LAYERS) for name, shape in layer.items()}
    own = {"ssm__conv_kernel": KERNEL, "ssm__inner_size": INNER, "ssm__state_size": STATE}
    return Model("mamba", sizes("mamba", **own, ssm__time_step_rank=STEP_RANK) | vocabulary, random_weights(shapes))
