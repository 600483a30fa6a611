"""What child processes cannot do, tried from within: in processes of this test, then in all of a real server's."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from modelfile import containment
from modelfile.containment import compile_modules
from registry.names import Digest
from tests.modelfile.create.models import F16
from tests.serving import GREEDY, LOOPBACK, PATIENCE, ROOT, serving

ATTACK = '''
import errno, json, os, socket, subprocess, sys
from pathlib import Path

def attack(folder):
    """What succeeds of all that is forbidden, and the names of errors."""
    outcomes = {}

    def attempt(what, action):
        try:
            action()
            outcomes[what] = "done"
        except OSError as error:
            outcomes[what] = errno.errorcode[error.errno]

    kept = folder / "kept"
    for family in ("AF_INET", "AF_INET6", "AF_UNIX"):
        attempt(family, lambda: socket.socket(getattr(socket, family)).close())
    attempt("connect", lambda: socket.socket().connect(("127.0.0.1", 9)))
    attempt("new file", lambda: folder.joinpath(f"new-{os.getpid()}").write_text("x"))
    attempt("overwritten", lambda: kept.write_text("x"))
    attempt("longer", lambda: kept.open("a").close())
    attempt("cut", lambda: os.truncate(kept, 0))
    attempt("mode", lambda: os.chmod(kept, 0o777))
    attempt("linked", lambda: os.link(kept, folder / "linked"))
    attempt("renamed", lambda: kept.rename(folder / "renamed"))
    attempt("removed", lambda: kept.unlink())
    attempt("folder", lambda: folder.joinpath(f"folder-{os.getpid()}").mkdir())
    leader = Path(f"/proc/{os.getpgrp()}/stat")  # of tests in the background it may have ended
    started_us = int(leader.read_text().rpartition(")")[2].split()[1]) if leader.exists() else os.getppid()
    attempt("memory of its parent", lambda: open(f"/proc/{started_us}/mem", "r+b").close())
    attempt("signal to its parent", lambda: os.kill(started_us, 0))
    attempt("namespace", lambda: namespace())
    after = "import socket; socket.socket()"
    outcomes["socket behind exec"] = "done" if not run("-c", after) else "EPERM"
    statuses = [Path(f"/proc/self/task/{thread}/status").read_text() for thread in os.listdir("/proc/self/task")]
    contained = all("NoNewPrivs:\\t1\\n" in status and "Seccomp:\\t2\\n" in status for status in statuses)
    outcomes["a thread that was there before"] = "none" if contained else "done"
    capabilities = int(next(line for line in statuses[0].splitlines() if line.startswith("CapEff")).split()[1], 16)
    outcomes["rule of the machine"] = "done" if capabilities >> 21 & 1 else "none"
    return outcomes

def namespace():
    import ctypes
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "")

def run(*arguments):
    try:
        return subprocess.run([sys.executable, "-S", *arguments], stderr=subprocess.DEVNULL).returncode
    except PermissionError:  # it may not even start
        return 1
'''
MODULES = ("engine.runner.child", "engine.runner.pictures", "modelfile.worker.jobs")
"""The first that is imported once a process is contained; others fork."""
HOOK = f"""
{ATTACK}
MODULES = {MODULES!r}
FORK = os.fork

def tell(who):
    os.write(2, ("\\n" + json.dumps([who, attack(Path(os.environ["TMPDIR"]))]) + "\\n").encode())

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            sys.meta_path.remove(self)
            tell(name)

def fork():
    pid = FORK()
    if not pid:
        tell(sys.modules["__main__"].__spec__.name)
    return pid

if "-m" in sys.orig_argv and "server.main" not in sys.orig_argv:
    sys.meta_path.insert(0, Finder())
    os.fork = fork
"""
FORBIDDEN = 19  # attempts
CONTAIN = """
import json, os, sys
from pathlib import Path
from modelfile.containment import contain
sys.path.insert(0, sys.argv[1])
from attack import attack, socket
"""


def python(code: str, *arguments: str, **environ: str) -> Any:
    """What code prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdout=subprocess.PIPE,
        check=True,
        timeout=PATIENCE,
    )
    return json.loads(done.stdout)


pytestmark = pytest.mark.skipif(
    python("import json; from modelfile.containment import contain; print(json.dumps(contain()[1]))") != [],
    reason="this system lacks something",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "attack.py").write_text(ATTACK)
    (tmp_path / "kept").write_text("kept")
    return tmp_path


@pytest.mark.parametrize("user", [0, 65534], ids=["as it is", "nobody"])
def test_a_contained_process_can_do_nothing_of_this(folder: Path, user: int) -> None:
    if user and os.geteuid():
        pytest.skip("only root becomes somebody else")
    lower = f"os.chmod(sys.argv[1], 0o777); os.setgid({user}); os.setuid({user})" if user else ""
    code = f"{CONTAIN}\n{lower}\nprint(json.dumps([contain(), attack(Path(sys.argv[1]))]))"
    (holds, lacks), outcomes = python(code, str(folder))
    assert (len(holds), lacks) == (3, [])
    assert len(outcomes) == FORBIDDEN
    assert set(outcomes.values()) <= {"EPERM", "EACCES", "EXDEV", "none"}, outcomes
    assert (folder / "kept").read_text() == "kept"


def test_a_process_that_is_not_contained_can_do_it(folder: Path) -> None:
    code = f"{CONTAIN}\nprint(json.dumps([contain(), attack(Path(sys.argv[1]))]))"
    contained, outcomes = python(code, str(folder), PRONK_RUNNER_SANDBOX="0")
    assert contained == [[], []]
    assert {outcomes[what] for what in ("AF_INET", "new file", "mode")} == {"done"}


def test_folders_in_which_a_process_works_can_be_written(folder: Path) -> None:
    code = """
    place = Path(sys.argv[1], "place", "deeper")
    contain([place])
    place.joinpath("a").write_text("x")
    os.fchmod(os.open(place / "a", os.O_RDWR), 0o600)
    place.joinpath("a").rename(place / "b")
    place.joinpath("folder").mkdir()
    print(json.dumps(attack(Path(sys.argv[1]))))
    """
    assert python(CONTAIN + textwrap.dedent(code), str(folder))["new file"] == "EACCES"
    assert (folder / "place" / "deeper" / "b").read_text() == "x"


@pytest.mark.parametrize("shared", [False, True])
def test_drivers_of_gpus_have_their_folders_and_local_sockets_where_they_need_them(folder: Path, shared: bool) -> None:
    code = """
    home = Path(sys.argv[1], "home")
    home.mkdir()
    contain(gpu=True)
    Path(os.environ["TMPDIR"], "driver").mkdir()
    Path(os.environ["CUDA_CACHE_PATH"], "cache").write_text("x")
    Path("/dev/null").write_text("x")
    print(json.dumps(attack(home)))
    """
    (folder / "tmp").mkdir()
    environ = {"TMPDIR": str(folder / "tmp"), "CUDA_CACHE_PATH": str(folder / "cache"), "HOME": str(folder)}
    if shared:
        environ["CUDA_MPS_PIPE_DIRECTORY"] = "/tmp/mps"
    outcomes = python(CONTAIN + textwrap.dedent(code), str(folder), **environ)
    assert (outcomes["AF_UNIX"] == "done") is shared
    assert outcomes["AF_INET"] == "EPERM"
    assert outcomes["new file"] == "EACCES"


@pytest.mark.parametrize("sandbox", ["1", "0"])
def test_every_child_of_a_server_is_contained(tmp_path: Path, sandbox: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    (tmp_path / "kept").write_text("kept")
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(picture, "PNG")
    ask = {"model": "tinychat", "stream": False, "options": GREEDY | {"num_predict": 8}}
    path = os.pathsep.join((str(ROOT), str(tmp_path)))
    with (
        serving(tmp_path / "models", PYTHONPATH=path, TMPDIR=str(tmp_path), PRONK_SANDBOX=sandbox) as server,
        httpx.Client(base_url=server.url, **LOOPBACK, timeout=PATIENCE) as client,
    ):
        chat = ask | {"messages": [{"role": "user", "content": "Hello!"}]}
        client.post("/api/chat", json=chat | {"format": {"type": "boolean"}}).raise_for_status()
        message = {
            "role": "user",
            "content": "What is this?",
            "images": [base64.b64encode(picture.getvalue()).decode()],
        }
        client.post("/api/chat", json=chat | {"model": "sight", "messages": [message]}).raise_for_status()
        file = F16.read_bytes()
        client.post(f"/api/blobs/{Digest.of(file)}", content=file)
        body = {"model": "q", "files": {"m.gguf": str(Digest.of(file))}, "quantize": "q8_0", "stream": False}
        assert client.post("/api/create", json=body).json() == {"status": "success"}
        log = server.log.read_text()
    reports = [json.loads(line) for line in log.splitlines() if line.startswith("[")]
    assert {who for who, _ in reports} == {*MODULES, "engine.runner.grammar_check", "engine.chat.jinja.worker"}
    for who, outcomes in reports:
        refused = set(outcomes.values()) <= {"EPERM", "EACCES", "EXDEV", "none"}
        assert refused is (sandbox == "1"), (who, outcomes)
    assert log.count("processes contained holds=") == int(sandbox)
    assert log.count("processes not contained") == 1 - int(sandbox)


def test_what_only_contained_processes_import_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    source = tmp_path / "module.py"
    compiled = Path(containment.cache_from_source(str(source)))
    source.write_text("x = 1")
    (tmp_path / "broken.py").write_text("x =")
    compile_modules(tmp_path)
    first = compiled.stat().st_mtime_ns, compiled.read_bytes()
    compile_modules(tmp_path)
    assert (compiled.stat().st_mtime_ns, compiled.read_bytes()) == first
    source.write_text("x = 12")
    compile_modules(tmp_path)
    assert compiled.read_bytes() != first[1]
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    compiled.unlink()
    compile_modules(tmp_path)
    assert not compiled.exists()
