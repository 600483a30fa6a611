"""Every code block of the documentation is run, or stands in a list that says why not.

They run in a sandbox: their address leads to the test's own server, their home is a folder that goes with it, and
models come from a registry and a hub on this machine.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import yaml
from PIL import Image

import cli.main
from scripts import smollm2
from server.settings import Settings
from tests.docs.blocks import Block, blocks
from tests.docs.internet import internet
from tests.docs.sandbox import SIGHT, Sandbox, hub, library, refusal, sandbox
from tests.registry.servers.http import Handler
from tests.serving import LOOPBACK, PATIENCE, ROOT, Served, serving
from tests.writing import store_writer

COMPILES = "compiles llama.cpp for ten minutes"
DOCKER = "needs Docker; make docker-test builds and tries the image, tests/test_services.py reads the files"
SYSTEMD = "needs systemd and root; tests/test_services.py has systemd read the unit"
HOURS = "measures for minutes or hours"
NOT_RUN = {
    ("README.md", "make run"): "tests/scripts/test_first_run.py runs it, and this is the other",
    ("README.md", "uv tool install ."): COMPILES,
    ("README.md", "docker build -t pronk ."): DOCKER,
    ("README.md", "sudo systemctl stop ollama"): SYSTEMD,
    ("CONTRIBUTING.md", "make test"): "runs this test",
    ("CONTRIBUTING.md", "make check"): "runs this test",
    ("install.md", "uv tool install ."): COMPILES,
    ("install.md", "git pull"): COMPILES,
    ("install.md", 'CMAKE_ARGS="-DGGML_CUDA=on" make engine'): COMPILES,
    ("install.md", 'CMAKE_ARGS="-DGGML_CUDA=on" uv tool install --reinstall --no-cache .'): COMPILES,
    ("docker.md", "docker build -t pronk ."): DOCKER,
    ("docker.md", "install -d -o 1000 -g 1000 models"): DOCKER,
    ("docker.md", "docker build -t pronk:cuda \\"): DOCKER,
    (
        "front-ends.md",
        "docker run -d --name open-webui --network host -e OLLAMA_BASE_URL=http://127.0.0.1:11434 \\",
    ): DOCKER,
    ("migration.md", "sudo systemctl stop ollama"): SYSTEMD,
    ("migration.md", "sudo python3 -m venv /opt/pronk"): SYSTEMD,
    ("migration.md", "sudo systemctl disable --now pronk"): SYSTEMD,
    ("migration.md", "docker stop ollama"): DOCKER,
    ("migration.md", "docker rm -f pronk"): DOCKER,
    ("deploy.md", "docker compose up -d"): DOCKER,
    ("deploy.md", "docker compose -f compose.yaml -f deploy/compose.nvidia.yaml up -d"): DOCKER,
    ("deploy.md", "sudo useradd --system --home-dir /var/lib/pronk --shell /usr/sbin/nologin pronk"): SYSTEMD,
    ("benchmarks.md", "make bench"): HOURS,
    (
        "benchmarks.md",
        "scripts/gpu_build.sh pack",
    ): "needs a GPU to say anything; tests/scripts/test_gpu_build.py runs it",
    ("json-schema.md", "make bench-schema"): HOURS,
}
"""Blocks of shells and Python that no test runs, and why."""

AFTER = {
    ("README.md", "mkdir -p ~/.local/bin"): "~/.local/bin/pronk --version",
    ("cli.md", "mkdir -p ~/.local/share/bash-completion/completions ~/.config/fish/completions"): (
        "(. ~/.local/share/bash-completion/completions/pronk; complete -p pronk); cat ~/.config/fish/completions/*"
    ),
    ("migration.md", "mkdir -p ~/.ollama/models"): "diff -r ~/ollama/.ollama/models ~/.ollama/models && echo the same",
}
"""What shows that a block has done what it says."""

SHOWN = {
    ("README.md", "mkdir -p ~/.local/bin"): [r"version is \d"],
    ("README.md", "pronk list"): [
        r"smollm2:135m +\w+ +98 MB",
        r"sight:latest",
        r"tinychat:latest",
        r"1, 2, 3, 4, 5",
        r"CONTEXT +UNTIL",
        r"selftest +the engine's self-test passed",
        r"Usage: pronk run ",
    ],
    ("README.md", "pronk pull qwen3:0.6b"): [r"success", r"DEVICE +LAYERS", "It (fits|is loaded): "],
    ("README.md", "curl http://127.0.0.1:11434/api/chat -d '{"): [r'"done":true'],
    ("README.md", "import ollama"): [r"\w+ \w+ \w+"],
    ("README.md", "export ANTHROPIC_BASE_URL=http://127.0.0.1:11434 ANTHROPIC_AUTH_TOKEN=local"): ["1, 2, 3\n1, 2, 3"],
    ("agents.md", "export ANTHROPIC_BASE_URL=http://127.0.0.1:11434 ANTHROPIC_AUTH_TOKEN=local"): ["1, 2, 3\n1, 2, 3"],
    ("agents.md", "export COPILOT_PROVIDER_BASE_URL=http://127.0.0.1:11434/v1 COPILOT_MODEL=qwen3-coder"): ["1, 2, 3"],
    ("api-keys.md", "pronk keys add laptop"): [r"^\S{30,}$", r"ops +", r"guest"],
    ("cli.md", "mkdir -p ~/.local/share/bash-completion/completions ~/.config/fish/completions"): [
        "complete -o default -F _pronk pronk",
        "complete -c pronk",
    ],
    ("images.md", "image=$(base64 < registry/bundled/sight.png | tr -d '\\n')"): [r'"response":"\w+'],
    ("images.md", 'pronk run sight "What is on the left? registry/bundled/sight.png"'): [r"(?s)red.*red"],
    ("images.md", 'pronk run hf.co/ggml-org/SmolVLM-256M-Instruct-GGUF "What is in this picture? photo.jpg"'): [
        r"\w{3}"
    ],
    ("install.md", "pronk doctor"): [r"selftest +the engine's self-test passed"],
    ("migration.md", "pronk list"): ["tinychat:latest", "selftest"],
    ("migration.md", "mkdir -p ~/.ollama/models"): ["all digests right", "^the same$"],
    ("migration.md", "sudo -u ollama HOME=/usr/share/ollama /opt/pronk/bin/pronk keys add laptop"): [r"^\S{30,}$"],
    ("migration.md", "pronk plan MODEL"): ["tinychat:latest"],
    ("front-ends.md", "OLLAMA_BASE_URL=http://127.0.0.1:11434 open-webui serve"): ['"tinychat:latest"'],
}
"""Patterns that are in what a block prints, both streams."""

BEFORE = {
    ("openai.md", 'items = [{"role": "user", "content": "What is the weather in Paris?"}]'): """
weather = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools = [{"type": "function", "name": "get_weather", "description": "Get the weather.", "parameters": weather}]
"""
}
"""What a block of Python takes for granted, beside the first one of its page."""

ELSEWHERE = {
    "architecture.md": "a drawing",
    "benchmarks.md": "what the machine was",
    "logs.md": "test_log_lines, and tests/server/test_log_story.py for the way of a request",
    "memory.md": "test_plan",
}
"""Pages with blocks of text, and what they are compared with."""

LANGUAGES = {"sh", "python", "json", "yaml", "toml", "ini", "modelfile", "text"}
RUN = [block for block in blocks("sh", "python") if block.key not in NOT_RUN]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("internet")
    hosts: dict[str, Handler] = {"registry.ollama.ai": library(), "hf.co": refusal, "huggingface.co": hub()}
    with internet(folder, hosts) as environ:
        yield environ


@pytest.fixture(scope="module")
def served(world: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all pages, which has what they name."""
    folder = tmp_path_factory.mktemp("served")
    environ = world | {"TMPDIR": str(folder), "OLLAMA_DEBUG_LOG_REQUESTS": "1", "PRONK_LOG_FORMAT": "json"}
    with serving(folder / "models", new=True, **environ) as server:
        # They say the same each time, whatever the program that asks wants.
        for name in ("qwen3", "qwen3-coder"):
            made = {"model": name, "from": "tinychat", "parameters": {"top_k": 1}, "stream": False}
            httpx.post(f"{server.url}/api/create", json=made, timeout=PATIENCE, **LOOPBACK).raise_for_status()
        yield server


@pytest.fixture(scope="module")
def writer(served: Served) -> None:
    """The small model that writes is there, for short answers. Skips where it cannot be had."""
    store_writer(served)
    short = {"model": smollm2.NAME, "from": smollm2.NAME, "parameters": {"num_predict": 40}, "stream": False}
    httpx.post(f"{served.url}/api/create", json=short, timeout=PATIENCE, **LOOPBACK).raise_for_status()


@pytest.fixture
def place(served: Served, world: dict[str, str], tmp_path: Path) -> Sandbox:
    found = sandbox(tmp_path, served.url.removeprefix("http://"))
    found.environ.update(world)
    shutil.copy(SIGHT, found.folder / "model.gguf")
    shutil.copy(SIGHT.with_name("sight-mmproj.gguf"), found.folder / "mmproj.gguf")
    Image.open(SIGHT.with_name("sight.png")).convert("RGB").save(found.folder / "photo.jpg")
    return found


def test_every_block_tells_its_language() -> None:
    assert [str(block) for block in blocks() if block.language not in LANGUAGES] == []


def test_lists_name_what_is_there() -> None:
    keys = {block.key for block in blocks()}
    assert [key for key in (*NOT_RUN, *AFTER, *SHOWN, *BEFORE) if key not in keys] == []
    assert {block.page for block in blocks("text")} == ELSEWHERE.keys()


@pytest.mark.parametrize("block", RUN, ids=str)
def test_block(block: Block, place: Sandbox, served: Served, request: pytest.FixtureRequest) -> None:
    if block.page == "api-keys.md":
        pytest.skip("test_keys runs it, on a server of its own")
    if smollm2.NAME in block.text:
        request.getfixturevalue("writer")
    shown = run_python(block, place) if block.language == "python" else place.run(replayed(block.text, served))
    if block.key in AFTER:
        shown += place.run(AFTER[block.key])
    for pattern in SHOWN.get(block.key, []):
        assert re.search(pattern, shown, re.MULTILINE), shown


def replayed(text: str, served: Served) -> str:
    """A block that sends a captured request again, with one that this server has captured."""
    if "ollama-request-logs" not in text:
        return text
    body = {"model": "tinychat", "prompt": "Hello!", "stream": False}
    httpx.post(f"{served.url}/api/generate", json=body, timeout=PATIENCE, **LOOPBACK).raise_for_status()
    [script, *_] = sorted(served.log.parent.glob("ollama-request-logs-*/*_api_generate_request.sh"))
    return re.sub(r"/tmp/ollama-request-logs-\S+\.sh", str(script), text)


def run_python(block: Block, place: Sandbox) -> str:
    """What a block of Python prints. It goes on from the first one of its page."""
    first = next(other for other in blocks("python") if other.page == block.page)
    before = BEFORE.get(block.key, "")
    text = block.text if block == first else f"{first.text}{before}{block.text}"
    return place.run(f"{shlex.quote(sys.executable)} -c {shlex.quote(place.here(text))}")


def test_keys(tmp_path: Path) -> None:
    [block] = [block for block in blocks("sh") if block.page == "api-keys.md"]
    with serving(tmp_path / "models") as served:
        place = sandbox(tmp_path, served.url.removeprefix("http://"))
        shown = place.run(block.text)
        for pattern in SHOWN[block.key]:
            assert re.search(pattern, shown, re.MULTILINE), shown
        [key, *_] = re.findall(r"^\S{30,}$", shown, re.MULTILINE)
        tags = f"{served.url}/api/tags"
        assert httpx.get(tags, **LOOPBACK).status_code == 401
        assert httpx.get(tags, headers={"X-Api-Key": key}, **LOOPBACK).status_code == 200


@pytest.mark.parametrize("block", blocks("modelfile"), ids=str)
def test_modelfile(block: Block, place: Sandbox) -> None:
    (place.folder / "Modelfile").write_text(block.text)
    assert "success" in place.run("pronk create mine -f Modelfile && pronk show mine")


# What is for other programs.


@pytest.mark.parametrize("block", blocks("json", "yaml", "toml"), ids=str)
def test_configuration(block: Block, served: Served) -> None:
    """It can be read, and its addresses are those of the server."""
    read: Any = {"json": json.loads, "yaml": yaml.safe_load, "toml": tomllib.loads}[block.language](block.text)
    assert read
    for path in re.findall(r"http://127\.0\.0\.1:11434([\w/]*)", block.text):
        answer = httpx.get(f"{served.url}{path}/models" if path else served.url, **LOOPBACK)
        assert answer.status_code == 200


def test_scrape_configuration() -> None:
    [block] = [block for block in blocks("yaml") if block.page == "metrics.md"]
    whole = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    assert yaml.safe_load(block.text)["scrape_configs"] == whole["scrape_configs"]


@pytest.mark.parametrize("block", blocks("ini"), ids=str)
def test_variables(block: Block) -> None:
    variables = dict(line.split("=", 1) for line in block.text.splitlines())
    settings = Settings.from_env(variables)
    assert settings.warnings == ()
    table = (ROOT / "docs/environment.md").read_text()
    assert all(f"| `{name}` |" in table for name in variables)


# What can be said of blocks that are not run, and of all others.


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_shell(block: Block) -> None:
    """Bash can read it; verbs, flags, targets of make and files that it names are there."""
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    text = re.sub(r"\\\n|(?<=\s)#.*", " ", block.text)
    for verb, rest in re.findall(
        r"\bpronk ([a-z]+)\b(?! +pronk\b)(?!:)([^|;&\n<>)\']*)", re.sub(r"pronk (?=pronk )", "", text)
    ):
        command = cli.main.app.commands.get(verb)
        assert command is not None, verb
        flags = {name for part in parts(command) for param in part.params for name in param.opts} | {"--help"}
        words = [word.partition("=")[0] for word in shlex.split(rest) if re.match(r"-{1,2}[a-z]", word)]
        assert set(words) <= flags, rest
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    files = re.findall(r"(?<![\w/.-])(?:deploy|scripts|registry|tests|docs)/[\w./-]+", text)
    assert [name for name in files if not (ROOT / name).exists() and name != "docs/benchmarks.svg"] == []


def parts(command: click.Command) -> list[click.Command]:
    """A verb, and the verbs below it."""
    return [command, *getattr(command, "commands", {}).values()]


@pytest.mark.parametrize("module", ["bench", "bench.schema"])
def test_flags_of_measurements(module: str) -> None:
    page = {"bench": "benchmarks.md", "bench.schema": "json-schema.md"}[module]
    text = "".join(block.text for block in blocks("sh") if block.page == page)
    usage = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    flags = re.findall(r'ARGS="([^"]*)"', text)
    assert flags
    assert all(word in usage.stdout for line in flags for word in line.split() if word.startswith("--"))


# What the documents say that comes.


def test_plan(place: Sandbox) -> None:
    [block] = [block for block in blocks("text") if block.page == "memory.md"]
    shown = place.run("pronk plan tinychat").splitlines()
    told = block.text.splitlines()
    assert shown[0].split() == told[0].split()
    numbers = re.compile(r"[\d.]+ [GMK]B|\d+")
    assert numbers.sub("N", shown[-1]).replace("is loaded", "fits") == numbers.sub("N", told[-1])
    assert len(re.split(r" {2,}", shown[1].strip())) == len(re.split(r" {2,}", told[1].strip()))


def test_log_lines(served: Served) -> None:
    """The lines of the page have the fields of the server's own."""
    body = {"model": "tinychat", "messages": [{"role": "user", "content": "Hello!"}], "stream": False}
    httpx.post(f"{served.url}/api/chat", json=body, timeout=PATIENCE, **LOOPBACK).raise_for_status()
    logged = [json.loads(line) for line in served.log.read_text().splitlines()]
    first, second = (
        next(block for block in blocks("text") if block.page == "logs.md"),
        next(block for block in blocks("json") if block.page == "logs.md"),
    )
    assert list(json.loads(second.text)) == list(next(line for line in logged if line["message"] == "answered"))
    lines = re.findall(r"^time=\S+ level=INFO (\w+) (.*)$", first.text, re.MULTILINE)
    assert [message for message, _ in lines] == ["loaded", "answered", "request"]
    for message, fields in lines:
        names = re.findall(r"(\w+)=", fields)
        told = [list(line.items())[4:] for line in logged if line["message"] == message]
        found = [[name for name, value in line if value is not None] for line in told]
        assert names in found, "\n".join([message, str(names), str(found[0])])
