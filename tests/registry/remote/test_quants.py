"""The GGUF files that a tag selects."""

import pytest

from registry.names import Digest
from registry.remote.quants import Candidate, RemoteFile, choose_model, choose_projector


def remote(path: str) -> RemoteFile:
    return RemoteFile(path, 1, Digest.of(path.encode()))


def chosen(tag: str, *paths: str) -> str | None:
    model = choose_model(map(remote, paths), tag)
    return None if model is None else model.path


PLAIN = [f"m-{quant}.gguf" for quant in ("BF16", "F16", "IQ4_XS", "Q2_K", "Q4_0", "Q4_K_M", "Q4_K_S", "Q8_0")]


@pytest.mark.parametrize(
    ("tag", "path"),
    [
        ("latest", "m-Q4_K_M"),
        ("Q8_0", "m-Q8_0"),
        ("q8_0", "m-Q8_0"),
        ("F16", "m-F16"),
        ("bf16", "m-BF16"),
        ("m-q2_k.gguf", "m-Q2_K"),
        ("Q4_K", "m-Q4_K_M"),
        ("Q4", "m-Q4_0"),
        ("4_0", None),
        ("Q3_K", None),
        ("gguf", None),
    ],
)
def test_a_file_for_each_type(tag: str, path: str | None) -> None:
    assert chosen(tag, *PLAIN) == path


@pytest.mark.parametrize(
    ("tag", "paths", "path"),
    [
        ("latest", ("m-Q8_0.gguf", "m-Q6_K.gguf"), "m-Q6_K"),
        ("latest", ("b.gguf", "a.gguf"), "a"),
        ("latest", ("m-F16.gguf", "mmproj-m-Q8_0.gguf", "README.md", "m.imatrix.gguf"), "m-F16"),
        ("latest", ("mmproj-F16.gguf", "MTP-m-Q4_K_M.gguf", "eagle3-x.gguf"), None),
        ("latest", (), None),
        ("Q4_K_XL", ("m-UD-Q4_K_XL.gguf",), "m-UD-Q4_K_XL"),
        ("UD-Q4_K_XL", ("m-Q4_K_XL.gguf", "m-UD-Q4_K_XL.gguf"), "m-UD-Q4_K_XL"),
        ("Q4_K_M", ("Q8_0/m.gguf", "Q4_K_M/m.gguf"), "Q4_K_M/m"),
        ("Q8_0", ("m.Q8_0.GGUF",), "m.Q8_0"),
        ("q4.k", ("m-q4_k.gguf",), None),
        ("Q4_K_M", ("m-Q4_K_M-imatrix.gguf", "m-q4_k_m.gguf"), "m-q4_k_m"),
    ],
)
def test_what_repositories_look_like(tag: str, paths: tuple[str, ...], path: str | None) -> None:
    assert chosen(tag, *paths) == path


SPLIT = [f"Q8_0/m-Q8_0-0000{number}-of-00003.gguf" for number in (2, 1, 3)]


@pytest.mark.parametrize("tag", ["latest", "Q8_0", "m-Q8_0-00001-of-00003.gguf", "m-q8_0.gguf"])
def test_a_split_model(tag: str) -> None:
    model = choose_model(map(remote, SPLIT), tag)
    assert model == Candidate("Q8_0/m-Q8_0", tuple(map(remote, sorted(SPLIT))))


def test_a_split_model_that_is_not_complete() -> None:
    assert chosen("Q8_0", *SPLIT[:2]) is None
    assert chosen("Q8_0", *SPLIT[:2], "m-Q8_0.gguf") == "m-Q8_0"


@pytest.mark.parametrize(
    ("model", "paths", "path"),
    [
        ("m-Q8_0", ("mmproj-F16.gguf", "mmproj-Q8_0.gguf", "mmproj-BF16.gguf"), "mmproj-Q8_0.gguf"),
        ("m-Q4_K_M", ("mmproj-F32.gguf", "mmproj-F16.gguf"), "mmproj-F16.gguf"),
        ("m", ("mmproj-BF16.gguf", "mmproj-m.gguf", "mmproj-F16.gguf"), "mmproj-F16.gguf"),
        ("b/m-Q8_0", ("mmproj-Q8_0.gguf", "a/mmproj-Q8_0.gguf", "b/mmproj-F32.gguf"), "b/mmproj-F32.gguf"),
        ("m", ("other.gguf", "mmproj.bin"), None),
    ],
)
def test_projectors(model: str, paths: tuple[str, ...], path: str | None) -> None:
    found = choose_projector(map(remote, paths), Candidate(model, ()))
    assert (None if found is None else found.path) == path
