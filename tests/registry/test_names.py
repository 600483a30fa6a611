"""Model names and digests: what is one, what is not, how they are shown."""

import hashlib
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.names import Digest, InvalidDigest, InvalidName, ModelName

HEX = hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("model", "registry.ollama.ai/library/model:latest"),
        ("model:tag", "registry.ollama.ai/library/model:tag"),
        ("ns/model", "registry.ollama.ai/ns/model:latest"),
        ("host/ns/model", "host/ns/model:latest"),
        ("host/ns/model:tag", "host/ns/model:tag"),
        ("localhost:11434/library/foo", "localhost:11434/library/foo:latest"),
        ("host:https/namespace/model:tag", "host:https/namespace/model:tag"),
        ("_why/_the/_lucky:_stiff", "_why/_the/_lucky:_stiff"),
        ("h/nn/mm:t", "h/nn/mm:t"),
        ("hf.co/user-1/Some.Repo-GGUF:Q8_0", "hf.co/user-1/Some.Repo-GGUF:Q8_0"),
        ("http://h/n/m:t", "h/n/m:t"),
        ("ftp://h:80/n/m", "h:80/n/m:latest"),
        ("m" * 80, f"registry.ollama.ai/library/{'m' * 80}:latest"),
        (f"{'h' * 255}/{'n' * 80}/m:{'t' * 80}", f"{'h' * 255}/{'n' * 80}/m:{'t' * 80}"),
        ("x:cloud", "registry.ollama.ai/library/x:cloud"),
    ],
)
def test_names(text: str, full: str) -> None:
    name = ModelName.parse(text)
    assert name.full == full
    assert ModelName.parse(full) == name


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "mm:", ":tag", "/nn/mm", "//", "hh//", "hh/nn/", "a/", "/a", "nn//mm", "mm:t:"),
        *("-hh/nn/mm:tt", "-a", ".hidden", "m:.t", "m:-t", "../etc/passwd", "a/../b", "..", "h/../m", "..:.."),
        *("host/name:space/model:tag", "host/name.space/model", "a/b/c/d", "h/n/m/", "x:7b:cloud"),
        *("m@sha256:" + HEX, "m^t", "m t", " model", "model ", "model\n", "m\0", "m:t\n", "módel", "m\u2024"),
        *("m" * 81, "n" * 81 + "/m", "m:" + "t" * 81, "h" * 256 + "/n/m"),
        *("://h/n/m", "http://n/m", "http://m", "http:///n/m", "a b://h/n/m", "http://https://h/n/m", "a/b://h/n/m"),
        *("a\\b", "c:\\m", "m%2f", "~/m", "h\x7f/n/m", "\ufeffm"),
    ],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(InvalidName):
        ModelName.parse(text)


@pytest.mark.parametrize(
    ("text", "shortest"),
    [
        ("registry.ollama.ai/library/model:latest", "model:latest"),
        ("registry.ollama.ai/ns/m:t", "ns/m:t"),
        ("host/library/m:t", "host/library/m:t"),
        ("Model", "Model:latest"),
    ],
)
def test_shortest(text: str, shortest: str) -> None:
    name = ModelName.parse(text)
    assert name.shortest == shortest
    assert ModelName.parse(shortest) == name


def test_a_name_is_as_typed_and_folded_as_a_whole() -> None:
    one, other = ModelName.parse("Some/Foo:V1"), ModelName.parse("some/fOO:v1")
    assert one != other
    assert one.folded == other.folded
    assert one.folded != ModelName.parse("some/foo:v2").folded


def test_the_scheme_is_kept_apart() -> None:
    plain, typed = ModelName.parse("h/n/m"), ModelName.parse("http://h/n/m")
    assert (plain.scheme, typed.scheme) == ("", "http")
    assert plain == typed
    assert hash(plain) == hash(typed)


@pytest.mark.parametrize("part", ["..", "", "a/b", "a\0", ".a", "a" * 256])
def test_parts_are_checked_however_a_name_is_made(part: str) -> None:
    for at in range(4):
        parts = ["h", "n", "m", "t"]
        parts[at] = part
        with pytest.raises(InvalidName):
            ModelName(*parts)


@given(st.text() | st.text("abAB_.-:/@~\\\n\0 ", max_size=30))
def test_no_text_leads_outside(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except InvalidName:
        return
    path = PurePosixPath("manifests", *name.parts)
    assert len(path.parts) == 5
    assert not any(part.startswith(".") or "/" in part or "\0" in part for part in name.parts)
    assert ModelName.parse(name.full) == name == ModelName.parse(name.shortest)


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha256-{HEX}", f"sha256:{HEX.upper()}", f"sha256-{HEX.title()}"])
def test_digests(text: str) -> None:
    digest = Digest.parse(text)
    assert digest == Digest.of(b"x") == Digest(HEX)
    assert (digest.hex, str(digest), digest.filename) == (HEX, f"sha256:{HEX}", f"sha256-{HEX}")
    assert len({digest, Digest(HEX)}) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("", "sha256:", f"sha256:{HEX[1:]}", f"sha256:{HEX}0", f"sha256:{HEX}\n", f"sha256_{HEX}", HEX),
        *(f"SHA256:{HEX}", f"sha512:{HEX}", f" sha256:{HEX}", f"sha256:{HEX[:-1]}g", f"sha256:{HEX[:-1]}\u0661"),
        *(f"sha256:../{HEX[3:]}", "sha256:" + "../" * 21 + "a", f"sha256-{HEX}-partial"),
    ],
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse(text)


@pytest.mark.parametrize("text", [HEX.upper(), f"sha256:{HEX}", "../x", ""])
def test_digits_are_checked_however_a_digest_is_made(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest(text)


@given(st.text() | st.text("0123456789abcdefABCDEF:-./sh", max_size=80))
def test_a_digest_never_names_anything_but_a_blob(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except InvalidDigest:
        return
    assert PurePosixPath(digest.filename).name == digest.filename == f"sha256-{digest.hex}"
