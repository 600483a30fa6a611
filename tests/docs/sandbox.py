"""A place where the commands of the documentation run: a home, the repository's files, stand-ins for other programs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from registry.bundled import MODELS
from registry.names import ModelName
from tests.registry.servers.http import Answer, Request
from tests.registry.servers.hub import Hub
from tests.registry.servers.registry import MemoryRegistry
from tests.serving import ENVIRON, PATIENCE, ROOT

TINYCHAT = MODELS[ModelName.parse("tinychat")].path
SIGHT = MODELS[ModelName.parse("sight")].path
BIN = Path(sys.executable).parent

PROGRAMS = {
    # What else it would do is left to whoever may.
    "sudo": """\
#!/bin/sh
[ "$1" != -u ] || shift 2
exec env "$@"
""",
    # Talks to the server that the variables name, as the program does.
    "claude": f"""\
#!{sys.executable}
import os, anthropic
client = anthropic.Anthropic()
for name in ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"):
    message = [{{"role": "user", "content": "Count to 3"}}]
    answer = client.messages.create(model=os.environ[name], max_tokens=50, messages=message)
    print(answer.content[-1].text)
""",
    "copilot": f"""\
#!{sys.executable}
import os, openai
client = openai.OpenAI(base_url=os.environ["COPILOT_PROVIDER_BASE_URL"], api_key="any")
message = [{{"role": "user", "content": "Count to 3"}}]
print(client.chat.completions.create(model=os.environ["COPILOT_MODEL"], messages=message).choices[0].message.content)
""",
    "open-webui": f"""\
#!{sys.executable}
import json, os, sys, urllib.request
assert sys.argv[1:] == ["serve"]
json.loads(os.environ.get("DEFAULT_MODEL_METADATA", "{{}}"))
print(urllib.request.urlopen(os.environ["OLLAMA_BASE_URL"] + "/api/tags").read().decode())
""",
}

# `pronk serve` goes to the background, and the next line waits until it answers.
SERVE = """
pronk() {
    if [ "${1-}" != serve ]; then command pronk "$@"; return; fi
    command pronk serve 2> "$HOME/serve.log" &
    server=$!
    until curl -sf "http://$OLLAMA_HOST/api/version" > /dev/null; do kill -0 $server && sleep 0.05; done
}
trap '[ -z "${server-}" ] || { kill $server; wait $server; }' EXIT
"""


@dataclass(frozen=True)
class Sandbox:
    """Where blocks run: `folder` is the repository, with links for all that is in it, `home` the user's own."""

    folder: Path
    home: Path
    environ: dict[str, str]

    @property
    def host(self) -> str:
        """The server's address, with its port."""
        return self.environ["OLLAMA_HOST"]

    def here(self, text: str) -> str:
        """A block's text with the addresses and folders of the sandbox."""
        text = re.sub(r"\bMODEL\b", "tinychat", text.replace("127.0.0.1:11434", self.host))
        text = re.sub(r"(?<![\w/])(\$PWD/)?\.venv/bin/|/opt/pronk/bin/", f"{BIN}/", text)
        return text.replace("/usr/share/ollama", str(self.home / "ollama"))

    def run(self, text: str, **environ: str) -> str:
        """What a block prints, both streams; it must succeed. `serve` in it begins a server of its own."""
        own = dict(environ)
        if "pronk serve" in text:
            own |= {"OLLAMA_HOST": f"127.0.0.1:{free_port()}", "OLLAMA_MODELS": str(self.home / "served")}
            own |= {"PRONK_API_KEYS_FILE": str(self.home / "served.json")}
            text = SERVE + text
        command = ["bash", "-euo", "pipefail", "-c", self.here(text)]
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert ended.returncode == 0, f"{text}\n{ended.stdout}"
        return ended.stdout


def sandbox(folder: Path, host: str) -> Sandbox:
    """A new sandbox with a server's address."""
    repository, home, programs = folder / "pronk", folder / "home", folder / "bin"
    for path in (repository, home, programs):
        path.mkdir()
    for path in ROOT.iterdir():
        (repository / path.name).symlink_to(path)
    for name, text in PROGRAMS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    shutil.copytree(ROOT / "tests/data/ollama-store", home / "ollama/.ollama/models")
    own = {
        "HOME": str(home),
        "OLLAMA_HOST": host,
        "PATH": f"{programs}:{BIN}:{os.environ['PATH']}",
        "PRONK_API_KEYS_FILE": str(folder / "api_keys.json"),
        "PYTHONPATH": str(ROOT),
        "USER": "user",
    }
    return Sandbox(repository, home, ENVIRON | os.environ | own)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def library() -> MemoryRegistry:
    """Ollama's library, with one model that is `tinychat` in truth."""
    found = MemoryRegistry()
    found.add("library/qwen3:0.6b", TINYCHAT.read_bytes(), config=b'{"model_format": "gguf"}')
    return found


def refusal(_: Request) -> Answer:
    """Hugging Face's registry, which refuses what its hub then has."""
    return Answer(400, b'{"error":"The specified tag is not available in GGUF format."}')


def hub() -> Hub:
    """Hugging Face, with one model that is `sight` in truth."""
    files = {
        "SmolVLM-256M-Instruct-Q8_0.gguf": SIGHT.read_bytes(),
        "mmproj-SmolVLM-256M-Instruct-Q8_0.gguf": SIGHT.with_name("sight-mmproj.gguf").read_bytes(),
    }
    return Hub("ggml-org/SmolVLM-256M-Instruct-GGUF", files, elsewhere="huggingface.co")
