"""What llama.cpp's vision library makes of a projector."""

from __future__ import annotations

from pathlib import Path

import llama_cpp.llama_cpp as C
import llama_cpp.mtmd_cpp as M


def sees(model: Path, projector: Path) -> bool:
    """Whether it loads the projector for this language model, and can be given images then."""
    params = M.mtmd_context_params_default()
    params.use_gpu = params.warmup = False
    params.n_threads = 1
    text = C.llama_model_load_from_file(str(model).encode(), C.llama_model_default_params())
    assert text is not None
    context = M.mtmd_init_from_file(str(projector).encode(), text, params)
    found = bool(context) and bool(M.mtmd_support_vision(context))
    if context:
        M.mtmd_free(context)
    C.llama_model_free(text)
    return found
