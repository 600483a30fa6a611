"""Packages that stand before the real llama_cpp on the path, and have one function of it broken."""

from pathlib import Path

from engine.runner import llamacpp

DIES = """
def llama_decode(context, batch, _real=llama_decode):
    import os, signal
    if batch.n_tokens > 8:  # as AMX does, whose kernels are for long prompts
        os.kill(os.getpid(), signal.{signal})
    return _real(context, batch)
"""
COMPUTES_WRONGLY = """
def llama_get_logits(context, _real=llama_get_logits):
    logits = _real(context)
    logits[0] += {by}
    return logits
"""
TURNS_TOO_FAR = """
def llama_init_from_model(model, params, _real=llama_init_from_model):
    params.rope_freq_scale = {by}
    return _real(model, params)
"""
DIES_AT_LOAD = """
def llama_model_load_from_file(path, params, _real=llama_model_load_from_file):
    import os, signal
    if {which!r} in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    return _real(path, params)
"""
_STUB = """
import importlib.util, os, sys
os.environ["LLAMA_CPP_LIB_PATH"] = {folder!r}
_spec = importlib.util.spec_from_file_location("llama_cpp.llama_cpp", {path!r})
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
globals().update(vars(_module))
"""


def broken_library(folder: Path, text: str) -> dict[str, str]:
    """Make one in `folder`; returns the environment variable that puts it before the real one."""
    real = Path(llamacpp.C.__file__)
    package = folder / "llama_cpp"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "0.0.1"\n')
    (package / "_ctypes_extensions.py").write_text(real.with_name("_ctypes_extensions.py").read_text())
    (package / "llama_cpp.py").write_text(_STUB.format(path=str(real), folder=str(real.with_name("lib"))) + text)
    return {"PYTHONPATH": str(folder)}
