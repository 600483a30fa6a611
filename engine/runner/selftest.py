"""Checks that the compiled library computes right numbers here: `python -m engine.runner.selftest` prints JSON.

It runs in a short-lived process of its own, started by `engine/selftest.py`: a library built for another processor,
or miscompiled, may kill it. It runs before anything but llama-cpp-python is installed and needs only that and numpy.

The bundled model, in the quantisations for which llama.cpp has kernels of its own, computes a long prompt, batches of
rows and single rows. Their logits are compared with stored ones (`selftest.npz`, made by
`scripts/selftest_reference.py`), the best token only where it is clearly ahead of the second.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.selftest import QuantizationResult

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "registry" / "bundled" / "tinychat.gguf"
REFERENCE = Path(__file__).with_name("selftest.npz")
STAGE = "stage: "  # on stderr before each quantisation: tells where a process that died was

PROMPT_TOKENS = 200
EVERY = 8  # logits of every n-th prompt token are compared
SEQUENCES = 8
STEPS = 3  # passes of all sequences together, then of one alone
COLUMNS = 32  # logits of a row that are compared, evenly spread
CANDIDATES = 4  # best tokens of a row whose logits are stored besides
CONTEXT = 512
TEXT = "".join(
    f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
    for question, answer in (
        ("Hello!", "Hello! How can I help you today?"),
        ("Who are you?", "I am tinychat, a tiny language model made for testing."),
        ("Count to 12.", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"),
        ("What is 7 + 5?", "7 + 5 = 12"),
        ("What is the capital of France?", "The capital of France is Paris."),
        ("List 3 fruits.", "apple, banana, orange"),
        ("Repeat after me: one two three four", "one two three four"),
        ("My name is Anna.", "Nice to meet you, Anna!"),
        ("What is my name?", "Your name is Anna."),
    )
)

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CheckedQuantization:
    """A quantisation and how far its logits may be off, in standard deviations of a row.

    `number` is llama.cpp's `llama_ftype`; `tolerance` bounds the root mean square over all logits, `limit` each one.
    Quantised weights are multiplied with quantised activations, which amplifies the last bit of a sum: builds without
    AVX-512, kernels for other layouts and batches of other shapes were up to 0.018 off (0.11 at most), float ones 0.004
    (0.02). A position encoding that is wrong by 1 % gives 0.057, a 4-bit cache 0.09.
    """

    name: str
    number: int
    tolerance: float
    limit: float


QUANTIZATIONS = (
    CheckedQuantization("Q8_0", 7, 0.045, 0.5),
    CheckedQuantization("Q4_0", 2, 0.045, 0.5),
    CheckedQuantization("Q4_K_M", 15, 0.045, 0.5),
    CheckedQuantization("F16", 1, 0.025, 0.25),
    CheckedQuantization("BF16", 32, 0.025, 0.25),
)


def compare(
    logits: Logits, stored: Mapping[str, npt.NDArray[Any]], quantization: CheckedQuantization
) -> QuantizationResult:
    """Compare all rows of a quantisation (float32, rows × n_vocab) with what `condense` stored of the reference."""
    rows = np.arange(len(logits))[:, None]
    spread = stored["values"].std(axis=1, keepdims=True)
    off = np.abs(logits[:, columns(logits.shape[1])] - stored["values"]) / spread
    off_best = np.abs(logits[rows, stored["best"]] - stored["best_values"]) / spread
    all_off = np.concatenate((off, off_best), axis=1, dtype=np.float64)
    deviation, largest = float(np.sqrt(np.square(all_off).mean())), float(all_off.max())  # NaN, if there is one
    margin = (stored["best_values"][:, 0] - stored["best_values"][:, 1]) / spread[:, 0]
    clear = margin > quantization.limit
    wrong = int(np.count_nonzero(clear & (logits.argmax(axis=1) != stored["best"][:, 0])))
    # A comparison with NaN is false.
    ok = deviation <= quantization.tolerance and largest <= quantization.limit and not wrong
    if not np.isfinite(deviation):
        deviation = largest = -1.0
    return QuantizationResult(
        quantization.name, ok, deviation, quantization.tolerance, largest, quantization.limit, wrong
    )


def condense(logits: Logits) -> dict[str, npt.NDArray[Any]]:
    """What is stored of all rows of a quantisation: evenly spread logits, and the best tokens with theirs."""
    best = np.argsort(-logits, axis=1)[:, :CANDIDATES].astype(np.int32)
    return {
        "values": logits[:, columns(logits.shape[1])],
        "best": best,
        "best_values": np.take_along_axis(logits, best, axis=1),
    }


def columns(vocabulary: int) -> npt.NDArray[np.int64]:
    """Indexes of the tokens whose logits are compared in each row."""
    return np.linspace(0, vocabulary - 1, COLUMNS).astype(np.int64)


def compute(path: Path) -> Logits:
    """The logits of a GGUF file, rows × n_vocab: of prompt tokens, of batches of rows, then of single rows."""
    from engine.runner.batch import Batch
    from engine.runner.llamacpp import C
    from engine.runner.vocabulary import Vocabulary

    with _model(path) as model, _context(model) as context:
        vocabulary = Vocabulary(model)
        tokens = vocabulary.tokenize(TEXT, add_special=False)[:PROMPT_TOKENS]
        if len(tokens) < PROMPT_TOKENS:
            raise RuntimeError(f"the text has {len(tokens)} tokens only: the vocabulary is read wrongly")
        batch = Batch(PROMPT_TOKENS)
        rows: list[Logits] = []

        def decode() -> None:
            if code := C.llama_decode(context, batch.as_struct()):
                raise RuntimeError(f"llama_decode returned {code}")
            n_outputs = int(np.count_nonzero(batch.output[: batch.size]))
            pointer = C.llama_get_logits(context)
            rows.append(np.ctypeslib.as_array(pointer, (n_outputs, vocabulary.size)).copy())
            batch.clear()

        batch.add(0, tokens, 0, output=True)
        batch.output[EVERY - 1 : PROMPT_TOKENS : EVERY] = 1
        decode()
        memory = C.llama_get_memory(context)
        sequences = range(SEQUENCES)
        for sequence in sequences[1:]:
            C.llama_memory_seq_cp(memory, 0, sequence, 0, PROMPT_TOKENS)
        # Each sequence continues with the prompt's tokens from another place.
        starts = [sequence * (PROMPT_TOKENS // SEQUENCES) for sequence in sequences]
        for step in range(STEPS):
            position = PROMPT_TOKENS + step
            batch.add_row(sequences, [tokens[start + step] for start in starts], [position] * SEQUENCES)
            decode()
        for step in range(STEPS, 2 * STEPS):
            batch.add_row([0], [tokens[starts[0] + step]], [PROMPT_TOKENS + step])
            decode()
        return np.concatenate(rows)


def quantize(target: Path, quantization: CheckedQuantization) -> None:
    """Write the bundled model in another quantisation. Raises RuntimeError."""
    from engine.runner.llamacpp import C

    parameters = C.llama_model_quantize_default_params()
    parameters.ftype = quantization.number
    parameters.allow_requantize = True
    if code := C.llama_model_quantize(bytes(MODEL), bytes(target), ctypes.byref(parameters)):
        raise RuntimeError(f"llama_model_quantize returned {code}")


def start() -> Any:
    """Load the library, silenced. The caller must keep what this returns as long as the library is used."""
    from engine.runner.llamacpp import C

    silent = C.llama_log_callback(lambda _level, _text, _user_data: None)
    C.llama_log_set(silent, None)
    C.llama_backend_init()
    return silent


def _run(folder: Path) -> dict[str, Any]:
    from engine.runner.llamacpp import C, version

    report: dict[str, Any] = {"ok": False, "library": version(), "features": "", "quantizations": [], "error": ""}
    silent = start()
    report["features"] = C.llama_print_system_info().decode().strip()
    results: list[QuantizationResult] = []
    with np.load(REFERENCE) as stored:
        for quantization in QUANTIZATIONS:
            print(STAGE + quantization.name, file=sys.stderr, flush=True)
            path = folder / f"{quantization.name}.gguf"
            try:
                quantize(path, quantization)
                expected = {key: stored[f"{quantization.name}.{key}"] for key in ("values", "best", "best_values")}
                results.append(compare(compute(path), expected, quantization))
            except RuntimeError as error:
                report["error"] = report["error"] or f"{quantization.name}: {error}"
            path.unlink(missing_ok=True)
    del silent
    report["quantizations"] = [asdict(result) for result in results]
    report["ok"] = not report["error"] and all(result.ok for result in results)
    return report


@contextlib.contextmanager
def _model(path: Path) -> Iterator[Any]:
    """The model on the CPU alone, GPUs or not: every machine has one, and its kernels are what compilers get wrong."""
    from engine.runner.llamacpp import C

    params = C.llama_model_default_params()
    params.n_gpu_layers = 0
    no_devices = (ctypes.c_void_p * 1)()
    params.devices = ctypes.cast(no_devices, ctypes.c_void_p)
    model = C.llama_model_load_from_file(bytes(path), params)
    if not model:
        raise RuntimeError("llama.cpp cannot load the model")
    try:
        yield model
    finally:
        C.llama_model_free(model)


@contextlib.contextmanager
def _context(model: Any) -> Iterator[Any]:
    from engine.runner.llamacpp import C

    params = C.llama_context_default_params()
    params.n_ctx = CONTEXT
    params.n_batch = params.n_ubatch = PROMPT_TOKENS
    params.n_seq_max = SEQUENCES
    params.n_threads = params.n_threads_batch = min(4, os.cpu_count() or 1)
    params.kv_unified = True
    params.offload_kqv = params.op_offload = False
    context = C.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError("llama.cpp cannot make a context")
    try:
        yield context
    finally:
        C.llama_free(context)


def main() -> int:
    """Print the report; returns 0 if all is right, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m engine.runner.selftest")
    parser.add_argument("--lib-dir", help="folder of the libraries, instead of llama-cpp-python's own")
    parser.add_argument("--folder", type=Path, help="where temporary files go; whoever names it removes it")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["GGML_NO_BACKTRACE"] = "1"  # where an assertion fails, its text is what counts
    os.environ.setdefault("GOMP_SPINCOUNT", "100")  # its passes are short, and others may need the cores
    if arguments.lib_dir:
        os.environ["LLAMA_CPP_LIB_PATH"] = arguments.lib_dir
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pronk-selftest-")))
        report = _run(folder)
    print(json.dumps(report))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
