"""The types of weights: their names, and that llama.cpp writes every one of them."""

from pathlib import Path

import pytest

from bench.random_model import Shape, write_model
from modelfile.quantize import SOURCES, Precision, Quantization, QuantizeError, exceptions, quantization, source_type
from modelfile.worker.llamacpp import quantize
from modelfile.worker_protocol import JobError, Quantize
from registry.gguf import GGUFHeader, read_header
from registry.gguf.types import FILE_TYPES
from tests.modelfile.create.models import F16, TINYCHAT

SMALL = Shape(layers=1, width=256, feed_forward=512, heads=4, kv_heads=2)
NEEDS_MATRIX = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"}
WRITTEN = sorted(set(FILE_TYPES.values()) - NEEDS_MATRIX - {"NVFP4"})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "f16.gguf"
    write_model(TINYCHAT, path, SMALL)
    return path


def nothing(_completed: int, _total: int) -> None:
    pass


def header(**metadata: object) -> GGUFHeader:
    return GGUFHeader(3, {key.replace("_", ".", 1): value for key, value in metadata.items()}, (), 0)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_type_is_written(small: Path, tmp_path: Path, name: str) -> None:
    kind = quantization(name.lower())
    told: list[tuple[int, int]] = []
    job = Quantize(source=str(small), target=str(tmp_path / "out.gguf"), number=kind.number)
    quantize(job, lambda done, total: told.append((done, total)))
    made = read_header(tmp_path / "out.gguf")
    assert FILE_TYPES[made.metadata["general.file_type"]] == name
    tensors = len(made.tensors)
    assert told == [(number, tensors) for number in range(1, tensors + 1)]


@pytest.mark.parametrize("name", sorted(NEEDS_MATRIX))
def test_the_others_need_what_nobody_gives(small: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(QuantizeError):
        quantization(name)
    number = next(number for number, known in FILE_TYPES.items() if known == name)
    with pytest.raises(JobError, match="requires an imatrix"):
        quantize(Quantize(source=str(small), target=str(tmp_path / "out.gguf"), number=number), nothing)


@pytest.mark.parametrize(
    ("text", "name"), [("q4_K_M", "Q4_K_M"), ("Q4_K", "Q4_K_M"), ("q5_k", "Q5_K_M"), ("bf16", "BF16"), ("F32", "F32")]
)
def test_names(text: str, name: str) -> None:
    assert quantization(text).name == name


@pytest.mark.parametrize("text", ["q9", "unknown", "", "Q4_K_M "])
def test_what_is_no_type(text: str) -> None:
    with pytest.raises(QuantizeError) as error:
        quantization(text)
    assert str(error.value) == (
        f"unsupported quantization type {text.upper()} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"
    )


def test_sources() -> None:
    assert source_type(read_header(F16)) == "F16"
    assert [source_type(header(general_file_type=number)) for number in (0, 1, 32)] == list(SOURCES)
    for unfit in (header(), header(general_file_type=7), header(general_file_type="F16")):
        with pytest.raises(QuantizeError, match="only supported for F16, BF16 and F32 models"):
            source_type(unfit)
    with pytest.raises(QuantizeError):
        source_type(read_header(TINYCHAT))


def test_what_is_quantised_already_is_refused_by_llama_cpp_too(tmp_path: Path) -> None:
    job = Quantize(source=str(TINYCHAT), target=str(tmp_path / "out.gguf"), number=quantization("q4_0").number)
    with pytest.raises(JobError, match="failed to quantize: requantizing from type q8_0 is disabled"):
        quantize(job, nothing)


def test_tensors_that_stay_precise(small: Path, tmp_path: Path) -> None:
    precise = [tuple(row) for row in (Precision(r"token_embd\.weight", "F16"), Precision(r"ffn_down", "Q8_0"))]
    target = tmp_path / "out.gguf"
    number = quantization("q4_0").number
    quantize(Quantize(source=str(small), target=str(target), number=number, exceptions=tuple(precise)), nothing)
    types = {tensor.name: tensor.type for tensor in read_header(target).tensors}
    assert types["token_embd.weight"] == "F16"
    assert types["blk.0.ffn_down.weight"] == "Q8_0"
    assert types["blk.0.ffn_up.weight"] == "Q4_0"


@pytest.mark.parametrize(
    ("architecture", "kind", "count"),
    [
        ("llama", "Q4_0", 0),
        ("glm4", "Q4_K_M", 2),
        ("glm4", "Q8_0", 0),
        ("deepseek2", "Q8_0", 5),
        ("gemma3n", "Q4_0", 1),
    ],
)
def test_which_those_are(architecture: str, kind: str, count: int) -> None:
    found = exceptions(architecture, quantization(kind))
    assert len(found) == count
    assert exceptions(architecture, Quantization(kind, 0)) == found
