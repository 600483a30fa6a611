"""`make run`: starts the server, shows a first answer of a small model that writes, and serves until Ctrl-C.

That model comes from the Python index. Where it cannot be had the bundled one answers, and the text says so.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

import registry.bundled
from scripts import smollm2
from server.http.listen import CannotListen, listen
from server.settings import Settings

PRONK = Path(sys.executable).with_name("pronk")
BUNDLED = "tinychat"
PICTURE = Path(registry.bundled.__file__).with_name("sight.png")
QUESTIONS = {smollm2.NAME: "Tell me about the sea in two sentences.", BUNDLED: "What can you do?"}
PATIENCE = 60.0  # seconds; the server takes about one


def main() -> int:
    """Serve; returns the server's exit code."""
    settings = Settings.from_env()
    if problem := _hindrance(settings):
        print(problem, file=sys.stderr)
        return 1
    with _own_terminal():
        server = subprocess.Popen([PRONK, "serve"])
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            if _is_up(server, settings.client_url):
                _tell(settings.client_url)
            return server.wait()
        except KeyboardInterrupt:  # the server gets it, too, and stops
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            return server.wait()


def _hindrance(settings: Settings) -> str:
    """The reason why the server cannot listen; empty if it can."""
    try:
        listen(settings.address).close()
    except CannotListen as error:
        other = f"OLLAMA_HOST=127.0.0.1:{settings.address.port + 1} make run"
        return f"Error: {error}\nIf an Ollama or a Pronk runs there, stop it, or take another port: {other}"
    return ""


@contextmanager
def _own_terminal() -> Iterator[None]:
    """Let Ctrl-C reach this process and the server but not make, which would report a failure."""
    terminal, group = sys.stdin.fileno(), os.getpgrp()
    if not os.isatty(terminal) or os.tcgetpgrp(terminal) != group or group == os.getpid():
        yield
        return
    # Taking the terminal from the background would stop us, and so would Ctrl-Z, with no way to continue under make.
    for number in (signal.SIGTTOU, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, group)


def _is_up(server: subprocess.Popen[bytes], url: str) -> bool:
    """Whether the server answers; False if it ended instead."""
    deadline = time.monotonic() + PATIENCE
    with httpx.Client(trust_env=False) as client:
        while server.poll() is None and time.monotonic() < deadline:
            try:
                client.get(f"{url}/api/version")
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return True
    return False


def _tell(url: str) -> None:
    """Show a first answer, unless the server wants an API key that is not here."""
    try:
        model = _model(url)
    except _KeyNeeded as error:
        print(
            f"\nPronk serves Ollama's API at {url}.\n"
            f"No first answer: {error}. OLLAMA_API_KEY takes one; to make one, in another terminal:\n\n"
            f"    {PRONK} keys add NAME\n\n"
            "Ctrl-C stops the server.\n",
            flush=True,
        )
    else:
        _show(url, model)


class _KeyNeeded(Exception):
    """The server wants another API key; the message is its own."""


def _model(url: str) -> str:
    """The name of the model that answers; it is on the server then. Raises _KeyNeeded."""
    key = Settings.from_env().environ.get("OLLAMA_API_KEY", "").strip()
    headers = [(b"Authorization", f"Bearer {key}".encode())] if key else []
    with httpx.Client(trust_env=False, timeout=PATIENCE, headers=headers) as client:
        answer = client.post(f"{url}/api/show", json={"model": smollm2.NAME})
    if answer.is_success:
        return smollm2.NAME
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise _KeyNeeded(answer.json()["error"])
    try:
        if not smollm2.is_here():
            print(f"\nDownloading {smollm2.NAME} (93 MB), a small model that writes.", flush=True)
        command = [str(PRONK), "create", smollm2.NAME, "--file", str(smollm2.modelfile())]
        made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if made.returncode:
            raise smollm2.Unavailable(made.stderr.strip().rpartition("\n")[2].removeprefix("Error: "))
    except smollm2.Unavailable as error:
        print(
            f"\n{smollm2.NAME} cannot be had: {error}\n"
            f"{BUNDLED} answers instead. It has four million parameters, and was made for tests.",
            flush=True,
        )
        return BUNDLED
    return smollm2.NAME


def _show(url: str, model: str) -> None:
    """Ask the model a question, and print how to ask more."""
    question = QUESTIONS[model]
    print(f'\n$ pronk run {model} "{question}"', flush=True)
    command = [str(PRONK), "run", model, "--think=false", question]
    # In one piece: the server logs to the same terminal meanwhile.
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False).stdout
    print(
        f"{answer.strip()}\n\n"
        f"Pronk serves Ollama's API at {url}. In another terminal:\n\n"
        f"    {PRONK} run {model}\n"
        f'    curl {url}/api/generate -d \'{{"model": "{model}", "prompt": "Hello!"}}\'\n\n'
        "A model that tells colours in pictures, and guesses shapes, is here, too:\n\n"
        f"    image=$(base64 < {PICTURE} | tr -d '\\n')\n"
        f"    curl {url}/api/generate -d "
        f'\'{{"model": "sight", "prompt": "What is on the left?", "stream": false, "images": ["\'$image\'"]}}\'\n\n'
        f"    {PRONK} pull qwen3:4b    # a larger model, from Ollama's library\n\n"
        "Ctrl-C stops the server.\n",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
