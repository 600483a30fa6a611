"""Which files a path in a Modelfile means."""

from pathlib import Path

import pytest

from modelfile.parser import ModelfileError
from modelfile.paths import expand, files_at


def folder(root: Path, *names: str) -> Path:
    for name in names:
        path = root / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return root / "model"


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["a.gguf", "b.gguf", "config.json", "README.md"], ["a.gguf", "b.gguf"]),
        (
            ["model-1.safetensors", "config.json", "1_Pooling/config.json", "a.gguf", "chat_template.jinja", "x.txt"],
            ["1_Pooling/config.json", "chat_template.jinja", "config.json", "model-1.safetensors"],
        ),
        (["model.safetensors", "consolidated.safetensors", "vocab.txt"], ["model.safetensors", "vocab.txt"]),
        (["consolidated.safetensors", "tokenizer.model"], ["consolidated.safetensors", "tokenizer.model"]),
        (
            ["adapter_model.safetensors", "adapter_config.json"],
            ["adapter_config.json", "adapter_model.safetensors"],
        ),
        (["0/model.safetensors", "config.json"], ["0/model.safetensors", "config.json"]),
    ],
)
def test_a_folder(tmp_path: Path, there: list[str], found: list[str]) -> None:
    place = folder(tmp_path, *there)
    files = files_at(place)
    assert sorted(files) == found
    assert all(path == place / name for name, path in files.items())


def test_a_file(tmp_path: Path) -> None:
    place = folder(tmp_path, "weights")
    assert files_at(place / "weights") == {"weights": place / "weights"}


@pytest.mark.parametrize("there", [["config.json"], ["pytorch_model.bin"], ["notes.txt"]])
def test_nothing_that_makes_a_model(tmp_path: Path, there: list[str]) -> None:
    with pytest.raises(ModelfileError, match="no Modelfile or safetensors files found"):
        files_at(folder(tmp_path, *there))


def test_links_stay_inside(tmp_path: Path) -> None:
    place = folder(tmp_path, "model.safetensors", "real/config.json")
    (place / "generation_config.json").symlink_to("real/config.json")
    assert "generation_config.json" in files_at(place)
    (tmp_path / "secret.json").write_text("{}")
    (place / "config.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(ModelfileError, match=r"insecure path: config\.json$"):
        files_at(place)
    cached = tmp_path / ".cache"
    cached.mkdir()
    place.rename(cached / "model")
    with pytest.raises(ModelfileError, match=r"insecure path: config\.json; copy the files out of the cache first"):
        files_at(cached / "model")


def test_expansion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert expand("~/m.gguf", tmp_path) == tmp_path / "home" / "m.gguf"
    assert expand("sub/m.gguf", tmp_path) == tmp_path / "sub" / "m.gguf"
    assert expand("/abs/m.gguf", tmp_path) == Path("/abs/m.gguf")
    assert expand("", tmp_path) == tmp_path
    with pytest.raises(ModelfileError, match="failed to find user 'nobody-here': user: unknown user nobody-here"):
        expand("~nobody-here/x", tmp_path)
