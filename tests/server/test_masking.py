"""What is secret in settings is never shown, the rest is."""

import pytest

from server.masking import shown, without_logins
from server.settings import ELSEWHERE, variables


@pytest.mark.parametrize("name", ["HF_TOKEN", "PRONK_API_KEYS", "OLLAMA_API_KEY", "pronk_api_keys"])
def test_secrets(name: str) -> None:
    assert shown(name, "value") == "***"


def test_no_other_setting_is_taken_for_a_secret() -> None:
    names = {row.name for row in variables().values()} | {name for name, _, _ in ELSEWHERE}
    assert {name for name in names if shown(name, "value") == "***"} == {"HF_TOKEN", "PRONK_API_KEYS"}
    assert shown("PRONK_API_KEYS_FILE", "/etc/keys.json") == "/etc/keys.json"
    assert shown("PRONK_REQUIRE_API_KEYS", "1") == "1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://me:pass@proxy.example:1", "http://***@proxy.example:1"),
        ("me:pass@proxy.example", "***@proxy.example"),
        ("http://me:pa/ss@proxy.example", "http://***@proxy.example"),
        ("http://me:p@ss@proxy.example", "http://***@proxy.example"),
        ("no proxy: 'http://pass@h' and 'http://i'", "no proxy: 'http://***@h' and 'http://i'"),
        ("https://registry.example/v2/", "https://registry.example/v2/"),
    ],
)
def test_logins(text: str, told: str) -> None:
    assert without_logins(text) == told
