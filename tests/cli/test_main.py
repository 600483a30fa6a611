"""What holds for every verb: how it is called, how it fails, what it does not import."""

import http.server
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Pronk, handled_by
from tests.serving import PATIENCE, ROOT


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bogus"], 'unknown command "bogus" for "pronk"'),
        (["run"], "requires at least 1 arg(s), only received 0"),
        (["rm"], "requires at least 1 arg(s), only received 0"),
        (["show"], "accepts 1 arg(s), received 0"),
        (["create"], "accepts 1 arg(s), received 0"),
        (["pull", "a", "b"], "accepts 1 arg(s), received 2"),
        (["push"], "accepts 1 arg(s), received 0"),
        (["stop"], "accepts 1 arg(s), received 0"),
        (["cp", "a"], "accepts 2 arg(s), received 1"),
        (["list", "a", "b"], "accepts at most 1 arg(s), received 2"),
        (["ps", "--nope"], "No such option: --nope"),
        (
            ["run", "m", "--think=bogus"],
            'invalid value for --think: "bogus" (must be true, false, low, medium, high, max)',
        ),
        (["run", "m", "--format", "{"], "--format must be json or a JSON schema"),
    ],
)
def test_a_wrong_call(alone: Pronk, args: list[str], message: str) -> None:
    assert alone.fail(*args) == f"Error: {message}\n"


@pytest.mark.parametrize("verb", ["list", "ps", "show", "pull", "push", "stop", "rm", "run"])
def test_no_server(alone: Pronk, verb: str) -> None:
    args = [] if verb in ("list", "ps") else ["tinychat"]
    assert alone.fail(verb, *args) == (
        "Error: could not connect to http://127.0.0.1:1, is the server running? start it with: pronk serve\n"
    )


BYTE = "\udcff"  # how Python has the byte 255, which is not UTF-8


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", ""], "model is required"),
        (["show", ""], "model is required"),
        (["pull", ""], "invalid model name"),
        (["push", ""], "model is required"),
        (["stop", ""], 'couldn\'t find model "" to stop'),
        (["rm", ""], "model is required"),
        (["embed", "", "x"], "model is required"),
        (["cp", "", "a"], 'source "" is invalid'),
        (["pull", BYTE], "invalid model name"),
        (["push", BYTE], "invalid model name"),
        (["stop", BYTE], "invalid model name"),
    ],
)
def test_a_name_that_cannot_be(pronk: Pronk, args: list[str], message: str) -> None:
    assert pronk.fail(*args) == f"Error: {message}\n"


@pytest.mark.parametrize(
    "args",
    [
        ["run", BYTE],
        ["run", "tinychat", "x", "--keepalive", BYTE],
        ["run", BYTE, "x"],
        ["embed", BYTE, "x"],
        ["show", BYTE],
        ["rm", BYTE],
        ["cp", BYTE, "a"],
        ["create", BYTE, "--file", "README.md"],
        ["create", "a", "--file", BYTE],
    ],
)
def test_arguments_that_are_not_utf_8(pronk: Pronk, args: list[str]) -> None:
    assert pronk.fail(*args).splitlines()[-1].startswith("Error: ")


class _Page(http.server.BaseHTTPRequestHandler):
    page = b"<html>"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.page)

    do_POST = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def website(request: pytest.FixtureRequest) -> Iterator[str]:
    handler = type("Handler", (_Page,), {"page": request.param})
    with handled_by(handler) as url:
        yield url


@pytest.mark.parametrize("website", [b"<html>", b"{}", b"[]", b"\xff"], indirect=True)
def test_another_kind_of_server(alone: Pronk, website: str) -> None:
    with_a_model = ("run", "show", "pull", "push", "stop", "rm", "plan")
    for call in ("list", "ps", *(f"{verb} a" for verb in with_a_model), "cp a b", "embed a b"):
        message = alone.fail(*call.split(), OLLAMA_HOST=website)
        assert message == f"Error: what answers at {website} is no Ollama server\n", call


@pytest.mark.parametrize("website", [b"{}"], indirect=True)
def test_create_on_another_kind_of_server(alone: Pronk, website: str, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text("FROM a\n")
    message = alone.fail("create", "b", "-f", str(tmp_path / "Modelfile"), OLLAMA_HOST=website)
    assert message.splitlines()[-1] == f"Error: what answers at {website} is no Ollama server"


def test_a_proxy_is_not_asked_for_this_machine(pronk: Pronk) -> None:
    assert pronk("ps", HTTP_PROXY="http://127.0.0.1:1", http_proxy="http://127.0.0.1:1").returncode == 0


def test_help(alone: Pronk) -> None:
    shown = alone.succeed("--help")
    assert shown == alone.succeed() == alone.succeed("-h")
    listed = [line.split()[0] for line in shown.partition("Commands:\n")[2].splitlines()]
    assert listed == [
        *(
            "serve",
            "create",
            "run",
            "embed",
            "show",
            "pull",
            "push",
            "list",
            "ps",
            "plan",
            "stop",
            "cp",
            "rm",
            "doctor",
        ),
        *("keys", "completion", "help"),
    ]
    for verb in [*listed, "ls", "start"]:
        assert alone.succeed(verb, "--help").startswith(f"Usage: pronk {verb} [OPTIONS]")
    assert "Usage: pronk cp [OPTIONS] SOURCE DESTINATION\n" in alone.succeed("cp", "--help")


@pytest.mark.parametrize("flag", ["--version", "-v"])
def test_version(alone: Pronk, flag: str) -> None:
    assert alone.succeed(flag) == "pronk version is 0.1.0\n"


def test_serve_tells_why_it_cannot(alone: Pronk) -> None:
    assert "Error: bad origin" in alone.fail("serve", OLLAMA_ORIGINS="evil.example")


def test_serve_does_not_import_what_only_clients_need() -> None:
    code = "import sys, cli.main; print(*{'ollama', 'rich', 'httpx', 'fastapi', 'llama_cpp'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


NOT_FOR_A_TABLE = (
    *("asyncio", "email", "fastapi", "http.client", "httpx", "llama_cpp", "prompt_toolkit", "pydantic", "rich", "ssl"),
    *("subprocess", "urllib.request"),
)


@pytest.mark.parametrize("verb", ["list", "ps", "show tinychat", "stop tinychat", "cp tinychat b", "rm b"])
def test_a_verb_imports_little(pronk: Pronk, verb: str) -> None:
    """What a verb imports is most of the time that it takes."""
    pronk.succeed("pull", "tinychat")
    pronk.succeed("cp", "tinychat", "b")
    code = (
        "import atexit, sys, cli.main; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); cli.main.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *verb.split()], cwd=ROOT, env=pronk.environ, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert set(NOT_FOR_A_TABLE) & set(ended.stderr.split()) == set()


def test_a_reader_that_has_gone(pronk: Pronk, tmp_path: Path) -> None:
    """The command ends without a traceback when its output cannot be written."""
    script = f"{' '.join(COMMAND)} show tinychat --template | true; exit ${{PIPESTATUS[0]}}"
    pronk.succeed("pull", "tinychat")
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=pronk.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.stderr == ""
    assert result.returncode in (0, 1)  # 0 if it was done before the reader left
