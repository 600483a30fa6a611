"""`python -m tests.clients.third_party`: installs clients that other people write, and tries them on a real server.

Each module of `python/` and `node/` is a client, or several of one maker; a command written in Go is called by Python.
It takes its steps in a process of its own and prints a line of JSON for each. The exit code is 1 if a step fails, or,
where the variable CI is set, if a client cannot be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.table import markdown
from tests.engine.berts import tiny_bert
from tests.golden.probes import digest_of
from tests.outside import in_ci
from tests.serving import ROOT, Served, serving

HERE = Path(__file__).parent
CACHE = ROOT / ".cache" / "clients"
LONGEST = 900  # seconds for one installation, or for all steps of one client
GGUF = ROOT / "tests" / "data" / "tinychat-f16.gguf"
EMBEDDER = "embedder"
PIP = ("--quiet", "--no-compile", "--retries=1", "--timeout=20")
ALONE = {"HAYSTACK_TELEMETRY_ENABLED": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""With these the clients talk to nobody but the server."""


class NotInstalled(Exception):
    """A client cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Client:
    """A module of steps, and the names of the packages that it needs. `quick`: it is light, and part of a short run."""

    module: str
    packages: Sequence[str]
    quick: bool = False


PYTHON = (
    Client("langchain", ("langchain-ollama", "langchain-openai", "langchain-anthropic")),
    Client(
        "llama_index_",
        (
            *("llama-index-llms-ollama", "llama-index-llms-openai-like"),
            *("llama-index-embeddings-ollama", "llama-index-embeddings-openai-like"),
        ),
    ),
    Client("litellm_", ("litellm",)),
    Client("llm_", ("llm", "llm-ollama"), quick=True),
    Client("pydantic_ai_", ("pydantic-ai-slim[openai,anthropic]", "anthropic<2"), quick=True),  # cannot take 2 yet
    Client("haystack_", ("haystack-ai", "ollama-haystack")),
    Client("instructor_", ("instructor", "openai", "anthropic"), quick=True),
)
NODE = (
    Client("openai", ("openai", "zod"), quick=True),
    Client("anthropic", ("@anthropic-ai/sdk", "zod")),
    Client("ollama", ("ollama",)),
    Client(
        "ai",
        ("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic", "ollama-ai-provider-v2", "zod"),
    ),
)
GO = (Client("ollama_go", ("github.com/ollama/ollama@latest",)),)
CLIENTS = (*PYTHON, *NODE, *GO)


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _parser().parse_args()
    rows: list[tuple[str, str, str]] = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="clients-") as folder, serving(Path(folder) / "models") as served:
        _prepare(served, Path(folder))
        for client in CLIENTS:
            if (options.quick and not client.quick) or (options.only and client.module.strip("_") not in options.only):
                continue
            _say(f"{client.module.strip('_')}: begins")
            try:
                steps = list(_steps(client, served))
            except NotInstalled as reason:
                rows.append((client.module.strip("_"), "skipped", str(reason)))
                failed |= in_ci()
            else:
                rows += _summary(steps)
                failed |= any(step["error"] for step in steps)
    print(markdown([("client", "steps passed", "failed"), *rows]))
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.clients.third_party", description=__doc__.split("\n")[0])
    names = [client.module.strip("_") for client in CLIENTS]
    parser.add_argument("--quick", action="store_true", help="only clients that are installed in seconds")
    parser.add_argument("--only", action="append", choices=sorted(set(names)), help="may be given several times")
    return parser


def _prepare(served: Served, folder: Path) -> None:
    """The models: the bundled one, and a tiny one that only embeds."""
    weights = tiny_bert(folder / "bert.gguf").read_bytes()
    digest = digest_of(weights)
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as server:
        server.post("/api/pull", json={"model": "tinychat", "stream": False}).raise_for_status()
        server.post(f"/api/blobs/{digest}", content=weights).raise_for_status()
        body = {"model": EMBEDDER, "files": {"bert.gguf": digest}, "stream": False}
        server.post("/api/create", json=body).raise_for_status()


def _steps(client: Client, served: Served) -> Iterator[dict[str, Any]]:
    """The lines that a client prints. One that breaks off is a failed step."""
    install = (
        _installed_for_python if client in PYTHON else _installed_for_node if client in NODE else _installed_for_go
    )
    command, folder = install(client)
    names = {"SERVER_URL": served.url, "OLLAMA_HOST": served.url, "OLLAMA_API_BASE": served.url, "GGUF": str(GGUF)}
    names |= {"GOBIN": str(CACHE / client.module)}
    own = {"LLM_USER_PATH": str(served.store.parent), "LLM_LOAD_PLUGINS": "llm-ollama"}
    env = os.environ | names | own | ALONE | {"EMBED_MODEL": EMBEDDER, "NO_PROXY": "127.0.0.1", "PYTHONPATH": ""}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
        with process:
            assert process.stdout is not None
            yield from (json.loads(line) for line in process.stdout if line.startswith('{"client"'))
        if process.returncode:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or [""])[-1]
            error = f"exit code {process.returncode}: {last[:200]}"
            yield {"client": client.module.strip("_"), "step": "all", "error": error}


def _installed_for_python(client: Client) -> tuple[list[str], Path]:
    """The command of a client in an environment of its own, and the folder to run it in."""
    venv = CACHE / client.module.strip("_")
    python = venv / "bin" / "python"

    def install() -> None:
        _run([sys.executable, "-m", "venv", "--clear", str(venv)])
        _run([str(python), "-m", "pip", "install", *PIP, *client.packages])

    _once(venv, client.packages, install)
    return [str(python), "-m", f"python.{client.module}"], HERE


def _installed_for_node(client: Client) -> tuple[list[str], Path]:
    """The command of a client on Node.js, and the folder to run it in: modules are looked up beside the script."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise NotInstalled("Node.js or npm cannot be found; scripts/install-test-packages installs it where it can")
    folder = CACHE / f"node-{client.module}"

    def install() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        quiet = ("--no-audit", "--no-fund", "--no-package-lock", "--fetch-retries=1", "--fetch-timeout=20000")
        _run([npm, "install", *quiet, *client.packages], folder)

    _once(folder, client.packages, install)
    shutil.copytree(HERE / "node", folder / "steps", dirs_exist_ok=True)
    return [node, f"steps/{client.module}.mjs"], folder


def _installed_for_go(client: Client) -> tuple[list[str], Path]:
    """The command that takes the steps of a program written in Go, and the folder to run it in."""
    go = shutil.which("go")
    if go is None or not (shutil.which("cc") or shutil.which("gcc")):
        raise NotInstalled("Go and a C compiler cannot be found")
    folder = CACHE / client.module

    def install() -> None:
        environ = os.environ | {"GOBIN": str(folder), "GOFLAGS": "-mod=mod", "CGO_ENABLED": "1"}
        _run([go, "install", *client.packages], environ=environ)

    _once(folder, client.packages, install)
    return [sys.executable, "-m", f"python.{client.module}"], HERE


def _once(folder: Path, packages: Iterable[str], install: Any) -> None:
    """Install unless the folder holds these packages from an earlier run. Raises NotInstalled."""
    mark, wanted = folder / ".installed", " ".join(packages)
    if mark.exists() and mark.read_text() == wanted:
        return
    try:
        install()
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"the installation took more than {LONGEST} s") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [""])[-1]
        raise NotInstalled(f"cannot be installed: {last[:200]}") from error
    mark.write_text(wanted)


def _run(command: Sequence[str], folder: Path | None = None, environ: dict[str, str] | None = None) -> None:
    subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, text=True, timeout=LONGEST)


def _summary(steps: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """A row for each client: how many of its steps passed, and what failed."""
    for name in dict.fromkeys(step["client"] for step in steps):
        own = [step for step in steps if step["client"] == name]
        failures = [f"{step['step']}: {step['error']}" for step in own if step["error"]]
        yield name, f"{len(own) - len(failures)} of {len(own)}", "; ".join(failures).replace("\n", " ")


def _say(text: str) -> None:
    print(f"clients: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
