"""Settings come from the environment by one table, which is also the documentation."""

import math
import pwd
from pathlib import Path

import pytest

from server.env import Address
from server.settings import ELSEWHERE, HomeMissing, Settings, markdown, variables


def test_defaults() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.address == Address("127.0.0.1", 11434)
    assert settings.keep_alive == 300
    assert settings.models_folder == Path.home() / ".ollama" / "models"
    assert settings.client_url == "http://127.0.0.1:11434"


def test_values() -> None:
    settings = Settings.from_env(
        {
            "OLLAMA_HOST": "0.0.0.0:1",
            "OLLAMA_MODELS": " '/models' ",
            "OLLAMA_KEEP_ALIVE": "-1",
            "OLLAMA_FLASH_ATTENTION": "0",
            "OLLAMA_KV_CACHE_TYPE": "Q8_0",
            "OLLAMA_ORIGINS": "http://a, http://b,",
            "OLLAMA_NOPRUNE": "yes",
        }
    )
    assert settings.address == Address("0.0.0.0", 1)
    assert settings.models_folder == Path("/models")
    assert settings.keep_alive == math.inf
    assert settings.flash_attention is False
    assert settings.kv_cache_type == "q8_0"
    assert settings.origins == ("http://a", "http://b")
    assert settings.no_prune
    assert not settings.warnings


def test_a_bad_value_is_the_default_and_a_warning() -> None:
    settings = Settings.from_env({"OLLAMA_MAX_QUEUE": "many", "OLLAMA_KEEP_ALIVE": "soon"})
    assert (settings.max_queue, settings.keep_alive) == (512, 300)
    assert [warning.split()[3].rstrip(",") for warning in settings.warnings] == [
        "OLLAMA_KEEP_ALIVE",
        "OLLAMA_MAX_QUEUE",
    ]


def test_what_cannot_be_read_is_told() -> None:
    environ = {
        "OLLAMA_KV_CACHE_TYPE": "banana",
        "OLLAMA_FLASH_ATTENTION": "banana",
        "OLLAMA_SCHED_SPREAD": "maybe",
        "LLAMA_ARG_FIT": "perhaps",
        "PRONK_RUNNER_LOG": "loud",
    }
    settings = Settings.from_env(environ)
    assert (settings.kv_cache_type, settings.flash_attention) == ("f16", True)
    assert (settings.sched_spread, settings.gpu_fit) == (True, True)
    for name, text in environ.items():
        assert (
            sum(f"invalid value of {name}, " in warning and repr(text) in warning for warning in settings.warnings) == 1
        )
    assert len(settings.warnings) == len(environ)


def test_a_bad_port_is_the_default_port_and_a_warning() -> None:
    settings = Settings.from_env({"OLLAMA_HOST": "1.2.3.4:99999"})
    assert settings.address == Address("1.2.3.4")
    assert settings.warnings == ("invalid value of OLLAMA_HOST, '99999' is no port, 11434 is used: '1.2.3.4:99999'",)


@pytest.mark.parametrize("text", ["~", "~/models", "~nobody-has-this-name/models"])
def test_no_home(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # as in a container whose user has no entry
    settings = Settings.from_env({"OLLAMA_MODELS": text})
    with pytest.raises(HomeMissing, match="set HOME or OLLAMA_MODELS"):
        _ = settings.models_folder
    assert Settings.from_env({"OLLAMA_MODELS": "/m"}).keys_folder == Path("/m")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MAX_QUEUE", "7")
    assert Settings.from_env().max_queue == 7


def test_every_default_that_is_shown_is_the_default() -> None:
    for name, row in variables().items():
        if row.shown and not any(word in row.shown for word in ("from", "automatic", "per", "~")):
            assert row.parse(row.shown) == getattr(Settings(), name), name


def test_markdown_has_a_row_for_each() -> None:
    lines = markdown().splitlines()
    assert len(lines) == 2 + len(variables()) + len(ELSEWHERE)
    assert all(line.count("|") == 4 for line in lines)


def test_times_that_mean_nothing_are_told() -> None:
    names = ("PRONK_DRAIN_TIMEOUT", "PRONK_PING_INTERVAL")
    settings = Settings.from_env(dict.fromkeys(names, "-5m") | {"OLLAMA_LOAD_TIMEOUT": "1ns"})
    assert (settings.drain_timeout, settings.ping_interval, settings.load_timeout) == (0, 0, 0.01)
    reason = "which is negative, 0 is used"
    assert {f"invalid value of {name}, {reason}: '-5m'" for name in names} < set(settings.warnings)
    assert len(settings.warnings) == 3
