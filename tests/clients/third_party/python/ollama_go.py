"""Ollama's own command, written in Go: its verbs, a session at a terminal, models that it makes."""

import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

from . import common as c

COMMAND = str(Path(os.environ["GOBIN"], "ollama"))
HOME = Path(tempfile.mkdtemp(prefix="ollama-home-"))  # its key and its history
ENVIRON = os.environ | {"HOME": str(HOME), "TERM": "xterm", "OLLAMA_NOHISTORY": "1"}
NO_CHANCE = {"temperature": 0, "repeat_penalty": 1, "seed": 1}
GREEDY = "greedy"  # the model without chance: the command has no flag for options
DRAWN = re.compile("\x1b\\[[0-9;?]*[A-Za-z]|\r|[\u2800-\u28ff] ?")  # control sequences and the spinner
PROMPT = ">>> "


def ollama(*args: str, stdin: str = "", code: int = 0) -> str:
    """What a command writes, on standard error if it has to fail. Output to a pipe is not wrapped."""
    result = subprocess.run(
        [COMMAND, *args], env=ENVIRON, input=stdin, capture_output=True, text=True, timeout=c.SLOWEST, check=False
    )
    assert result.returncode == code, result.stderr
    return DRAWN.sub("", result.stderr if code else result.stdout)


def create(name: str, modelfile: str, *flags: str) -> None:
    """Make a model of the text of a Modelfile."""
    with tempfile.NamedTemporaryFile("w", suffix=".Modelfile") as file:
        file.write(modelfile)
        file.flush()
        ollama("create", name, "-f", file.name, *flags)


def without_chance(name: str, base: str) -> None:
    """Make a model that always gives the same text."""
    create(name, f"FROM {base}\n" + "".join(f"PARAMETER {key} {value}\n" for key, value in NO_CHANCE.items()))


def red_square(path: Path) -> None:
    """A picture: red in the middle of white, as a PNG."""
    size, near, far = 96, 24, 72
    white, red = b"\xff\xff\xff", b"\xdc\x14\x14"
    edge, middle = white * size, white * near + red * (far - near) + white * (size - far)
    lines = b"".join(b"\0" + (middle if near <= row < far else edge) for row in range(size))
    parts = {b"IHDR": struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(lines), b"IEND": b""}
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def rows(*args: str) -> list[str]:
    """The names in a table that a command writes."""
    return [line.split()[0] for line in ollama(*args).splitlines()[1:]]


class Session:
    """`ollama run` at a terminal."""

    def __init__(self, *args: str) -> None:
        self._process, self._terminal = pty.fork()
        if not self._process:
            os.execve(COMMAND, [COMMAND, "run", *args], ENVIRON)
        self.said(PROMPT)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._terminal)
        os.waitpid(self._process, 0)

    def say(self, line: str) -> str:
        """Type a line; what is shown until the next prompt."""
        os.write(self._terminal, f"{line}\r".encode())
        return self.said(f"\n{PROMPT}")

    def said(self, end: str) -> str:
        """All that is shown until `end` comes."""
        seen, patience = b"", time.monotonic() + c.SLOWEST
        while end not in (text := DRAWN.sub("", seen.decode(errors="ignore"))):
            assert select.select([self._terminal], [], [], patience - time.monotonic())[0], f"only {text!r} came"
            seen += os.read(self._terminal, 65536)
        return text

    def leave(self) -> None:
        os.write(self._terminal, b"/bye\r")


class Go:
    name = "ollama (Go)"

    def __init__(self) -> None:
        without_chance(GREEDY, c.MODEL)

    def plain(self) -> str:
        return ollama("run", GREEDY, "--think=false", c.CAPITAL).strip()

    def thinking(self) -> tuple[str, str]:
        thought, answer = ollama("run", GREEDY, "--think", c.CAPITAL).split("...done thinking.")
        return thought.removeprefix("Thinking...").strip(), answer.strip()

    def no_thinking(self) -> tuple[None, str]:
        return None, ollama("run", GREEDY, "--hidethinking", c.CAPITAL).strip()

    def json(self) -> object:
        return json.loads(ollama("run", GREEDY, "--think=false", "--format", "json", c.PERSON))

    def json_schema(self) -> object:
        schema = json.dumps(c.PERSON_SCHEMA)
        return json.loads(ollama("run", GREEDY, "--think=false", "--format", schema, c.PERSON))

    def usage(self) -> tuple[int, int]:
        args = ("run", GREEDY, "--think=false", "--verbose", c.CAPITAL)
        told = subprocess.run([COMMAND, *args], env=ENVIRON, capture_output=True, text=True, check=True).stderr
        prompt, answer = re.findall(r"eval count: +(\d+) token", told)
        return int(prompt), int(answer)

    def embed(self) -> list[float]:
        return list(json.loads(ollama("run", c.EMBEDDER, "a")))

    def models(self) -> list[str]:
        return rows("list")

    def unknown_model(self) -> str:
        return ollama("show", "nosuch", code=1)

    def bad_request(self) -> str:
        return ollama("create", "bad", "-f", "/dev/stdin", stdin=f"FROM {c.MODEL}\nPARAMETER num_ctx x\n", code=1)

    def check_pipe(self) -> None:
        assert ollama("run", GREEDY, "--think=false", stdin=c.CAPITAL).strip() == c.ANSWER

    def check_dimensions(self) -> None:
        assert len(json.loads(ollama("run", c.EMBEDDER, "--dimensions", "4", "a"))) == 4

    def check_show(self) -> None:
        words = ollama("show", GREEDY, "--parameters").split()
        assert dict(zip(words[::2], map(float, words[1::2]), strict=True)) == NO_CHANCE
        assert f"# FROM {GREEDY}:latest" in ollama("show", GREEDY, "--modelfile")
        overview = ollama("show", GREEDY, "--verbose")
        assert "qwen3" in overview
        assert "token_embd.weight" in overview

    def check_create_copy_remove(self) -> None:
        create("made", f'FROM {c.MODEL}\nSYSTEM """Be\nshort."""\nLICENSE MIT\nMESSAGE user Hi\n')
        ollama("cp", "made", "copied:v1")
        assert ollama("show", "copied:v1", "--system").strip() == "Be\nshort."
        assert ollama("show", "copied:v1", "--license").strip() == "MIT"
        ollama("rm", "made", "copied:v1")
        assert not {"made:latest", "copied:v1"} & set(rows("list"))
        assert "not found" in ollama("rm", "made", code=1)

    def check_gguf_quantized(self) -> None:
        create("small", f"FROM {os.environ['GGUF']}\n", "--quantize", "q4_K_M")
        assert "Q4_K_M" in ollama("show", "small")
        assert ollama("run", "small", "--think=false", "Hello!").strip()

    def check_keep_alive(self) -> None:
        ollama("run", GREEDY, "--keepalive", "-1m", "--think=false", "Hello!")
        assert "Forever" in ollama("ps")
        ollama("stop", GREEDY)
        patience = time.monotonic() + c.SLOWEST
        while f"{GREEDY}:latest" in rows("ps"):
            assert time.monotonic() < patience, "it is still loaded"
            time.sleep(0.1)

    def check_picture(self) -> None:
        ollama("pull", "sight")
        without_chance("looks", "sight")
        red_square(HOME / "picture.png")
        assert "red square" in ollama("run", "looks", f"What colour is the shape? {HOME / 'picture.png'}")

    def check_session(self) -> None:
        with Session(GREEDY, "--think=false") as session:
            assert "Set system message." in session.say(f"/set system {c.PIRATE}")
            assert c.EXPECTED["system"] in session.say(c.CAPITAL)
            assert "num_ctx" in session.say("/set parameter num_ctx 512")
            assert "Created new model 'saved'" in session.say("/save saved")
            assert "Cleared session context" in session.say("/clear")
            assert "Couldn't find model 'nosuch'" in session.say("/load nosuch")
            assert "Loading model" in session.say("/load saved")
            assert c.PIRATE in session.say("/show system")
            session.leave()
        assert re.search(r"num_ctx +512", ollama("show", "saved", "--parameters"))
        assert f"MESSAGE user {c.CAPITAL}" in ollama("show", "saved", "--modelfile")


if __name__ == "__main__":
    try:
        c.run(Go())
    finally:
        shutil.rmtree(HOME)
