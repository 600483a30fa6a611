"""What helps against an engine that is broken, for each way to install it."""

from pathlib import Path

import pytest

from modelfile import backends, crashes


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("libggml-cpu-haswell.so", "rebuild the image, or name another PRONK_RUNNER_CPU_VARIANT"),
        ("libggml-cpu.so", "install llama-cpp-python again"),
    ],
)
def test_what_helps_where_there_is_no_makefile(
    module: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert crashes.remedy() == "`make engine` compiles it anew"
    folder = tmp_path / "llama_cpp" / "lib"
    folder.mkdir(parents=True)
    (folder / module).touch()
    monkeypatch.setattr(crashes, "MAKEFILE", tmp_path / "Makefile")
    monkeypatch.setattr(backends, "library_folder", lambda: folder)
    assert crashes.remedy() == told
    assert crashes.advice(4) == f"the engine does not fit this processor; {told}"
