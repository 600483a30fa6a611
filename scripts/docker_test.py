"""`make docker-test`: builds the image with buildah, runs it, and checks files, server and CPU variants.

Base images are made by debootstrap, with this machine's Debian release and mirror; pip in the build uses this machine's
settings. Both are mounted and leave nothing in the image.

  QUICK=1    the engine installed here, instead of one compiled in the image with all CPU variants
  WHEELS=DIR a folder with a wheel of llama-cpp-python to use instead
  CI         set: fail instead of skip on a machine that cannot build images
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
F16 = ROOT / "tests" / "data" / "tinychat-f16.gguf"
STORE = ROOT / "tests" / "data" / "ollama-store"
CACHE = ROOT / ".cache" / "docker"
BASE, IMAGE = "localhost/pronk-test-base", "localhost/pronk-test"
QUICK_BASE = f"{BASE}-quick"  # includes the Dockerfile's packages, so that they are downloaded once
QUICK_PACKAGES = "python3,python3-venv,libgomp1,libstdc++6"
PACKAGES = ("buildah", "debootstrap")
ENGINE = "llama_cpp_python"
PATIENCE = 120.0  # seconds for a start, an answer or a stop
VARIANT = re.compile(r"CPU variant (\S+) of llama\.cpp")
DYING = r"""
#include <signal.h>
int ggml_backend_score(void) { return 1 << 30; }
void * ggml_backend_init(void) { raise(SIGILL); return 0; }
"""
STRANGER = 1000  # a user of whom the image knows nothing
READ_ONLY = """
mount --bind "$1" "$1"
mount --bind "$2" "$1/models"
mount -t tmpfs tmpfs "$1/tmp"
mount --rbind /dev "$1/dev"
mount --rbind /proc "$1/proc"
mount -o remount,bind,ro "$1"
shift 2
exec "$@"
"""
PLANTED = r"""
#include <unistd.h>
int ggml_backend_score(void) { return 1 << 30; }
__attribute__((constructor)) static void loaded(void) { (void)!write(2, "PLANTED\n", 8); }
"""


class Unable(Exception):
    """This machine cannot build or run images."""


def main() -> int:
    """Build and check; returns the exit code."""
    started = time.monotonic()
    try:
        prepare()
    except Unable as error:
        print(f"The image was not tested: {error}.", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    quick = bool(os.environ.get("QUICK"))
    build(quick=quick)
    say(f"built in {time.monotonic() - started:.0f} s" + ("" if quick else f", {size() >> 20} MiB on top of the base"))
    with container() as image:
        for check in (*CHECKS, check_fallback):
            if check is check_fallback and not has_variants(image):
                say("this engine has no CPU variants, so none can take the place of another: skipped")
                continue
            check(image)
            say(f"{(check.__doc__ or '').strip()}: ok")
    say(f"all in {time.monotonic() - started:.0f} s")
    return 0


def prepare() -> None:
    """Find or install the tools. Raises Unable."""
    if os.geteuid() != 0 or sys.platform != "linux":
        raise Unable("buildah and debootstrap are run by root, on Linux")
    missing = [name for name in PACKAGES if shutil.which(name) is None]
    if missing and shutil.which("apt-get") is None:
        raise Unable(f"{' and '.join(missing)} cannot be had: there is no apt-get")
    if missing:
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            done = subprocess.run(["apt-get", "-q", *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unable(f"{' and '.join(missing)} cannot be installed: {_last(done.stderr)}")
    # In a container that may not mount, the tools exist but do not work.
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        made = buildah("from", "scratch", capture=True).strip()
        buildah("mount", made, capture=True)
        buildah("rm", made, capture=True)
    except subprocess.CalledProcessError as error:
        raise Unable(f"buildah cannot make a container here: {_last(error.stderr)}") from None


# The image.


def build(*, quick: bool) -> None:
    """Build the base image, then the image."""
    base = QUICK_BASE if quick else BASE
    if base not in buildah("images", "--format", "{{.Name}}", capture=True).splitlines():
        make_base(base, *([f"--include={QUICK_PACKAGES}"] if quick else []))
    wheels = Path(os.environ.get("WHEELS") or CACHE / "wheels")
    wheels.mkdir(exist_ok=True)
    arguments = ["--build-arg", f"BUILD_IMAGE={base}", "--build-arg", f"RUN_IMAGE={base}"]
    if quick and not any(wheels.glob("*.whl")):
        wheels = CACHE / "installed"
        shutil.rmtree(wheels, ignore_errors=True)
        wheels.mkdir()
        pack(wheels)
    if any(wheels.glob("*.whl")):
        arguments += ["--build-arg", "BUILD_PACKAGES="]
    volumes = [f"{wheels.resolve()}:/wheels:ro", *settings()]
    mounts = [word for volume in volumes for word in ("--volume", volume)]
    # Do not reuse a cached layer with another wheel.
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in sorted(wheels.glob("*.whl"))))
    label = ["--build-arg", f"ENGINE_DIGEST={digest.hexdigest()[:12]}"]
    buildah("build", "--format", "docker", "--layers", *arguments, *label, *mounts, "--tag", IMAGE, str(ROOT))


def make_base(name: str, *options: str) -> None:
    """Make the base image."""
    suite, mirror = archive()
    folder = CACHE / "base"
    shutil.rmtree(folder, ignore_errors=True)
    say(f"making a base of Debian {suite}")
    with (CACHE / "debootstrap.log").open("w") as log:
        command = ["debootstrap", "--variant=minbase", *options, suite, str(folder), mirror]
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
            raise SystemExit(f"debootstrap failed; its output is in {CACHE / 'debootstrap.log'}")
    made = buildah("from", "scratch", capture=True).strip()
    buildah("add", "--quiet", made, str(folder), "/")
    buildah("commit", "--quiet", made, name)
    buildah("rm", made, capture=True)
    shutil.rmtree(folder)


def archive() -> tuple[str, str]:
    """This machine's Debian release and its package mirror."""
    release = dict(re.findall(r'^(\w+)="?(.*?)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
    suite = release.get("VERSION_CODENAME", "")
    command = ["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)"]
    rows = [line.split() for line in output(command).splitlines()]
    mirrors = [row[2] for row in rows if len(row) == 3 and row[:2] == [suite, "main"]]
    if not suite or not mirrors:
        raise SystemExit("apt-get does not say from where this machine has its packages: apt-get update?")
    return suite, mirrors[0]


def settings() -> Iterator[str]:
    """Volumes with this machine's settings of apt-get and pip."""
    lines = [line for line in output(["apt-config", "dump"]).splitlines() if re.match(r"Acquire::\S+ \"", line)]
    (CACHE / "apt.conf").write_text("\n".join(lines) + "\n")
    yield f"{CACHE / 'apt.conf'}:/etc/apt/apt.conf.d/99-of-the-builder:ro"
    pairs = re.findall(
        r"^\S+?\.([\w-]+)='(.*)'$", output([sys.executable, "-m", "pip", "config", "list"]), re.MULTILINE
    )
    values = {key.lstrip("."): value for key, value in pairs if key != "find-links"}
    if certificates := values.get("cert"):
        values["cert"] = "/etc/pip-certificates.crt"
        yield f"{certificates}:{values['cert']}:ro"
    (CACHE / "pip.conf").write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
    yield f"{CACHE / 'pip.conf'}:/etc/pip.conf:ro"


def pack(folder: Path) -> None:
    """Pack the engine installed here as a wheel."""
    package = importlib.metadata.distribution(ENGINE)
    [tag] = re.findall(r"^Tag: (\S+)$", package.read_text("WHEEL") or "", re.MULTILINE)[:1]
    top = Path(str(package.locate_file("")))
    with zipfile.ZipFile(folder / f"{ENGINE}-{package.version}-{tag}.whl", "w") as wheel:
        record = []
        for file in package.files or ():
            path = top / file
            if ".." in file.parts or "__pycache__" in file.parts or file.name in ("RECORD", "INSTALLER", "REQUESTED"):
                continue
            data = path.read_bytes()
            info = zipfile.ZipInfo(str(file))
            info.external_attr = stat.S_IMODE(path.stat().st_mode) << 16
            wheel.writestr(info, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{file},sha256={digest},{len(data)}")
        name = f"{ENGINE}-{package.version}.dist-info/RECORD"
        wheel.writestr(name, "\n".join([*record, f"{name},,", ""]))


def size() -> int:
    """Bytes of the image's files without the base image."""
    sizes = []
    for image in (IMAGE, BASE):
        with container(image) as made:
            sizes.append(int(output(["du", "-sxB1", str(made.root)]).split()[0]))
    return sizes[0] - sizes[1]


def config() -> dict[str, Any]:
    """The image's configuration."""
    inspected = json.loads(buildah("inspect", "--type", "image", IMAGE, capture=True))
    return dict(inspected["Docker"]["config"])


# Checks.


def check_files(image: Container) -> None:
    """no file is odd: each belongs to root or, few of them, to the server's user, and others cannot write it"""
    root = image.root
    users = dict(line.split(":")[0:3:2] for line in (root / "etc/passwd").read_text().splitlines())
    user = int(users["pronk"])
    assert user != 0
    assert config()["User"] == "pronk"
    assert list(config()["Volumes"]) == ["/models"]
    assert {"title", "description", "licenses", "version"} <= {name.rpartition(".")[2] for name in config()["Labels"]}
    known = {int(value) for value in users.values()}
    public = {root / name for name in ("tmp", "var/tmp", "run/lock")}
    for folder, names, files in os.walk(root):
        if Path(folder) == root:
            names[:] = set(names) - {"dev", "proc", "sys"}
        for path in (Path(folder, name) for name in (*names, *files)):
            status = path.lstat()
            assert status.st_uid in known, f"{path} belongs to {status.st_uid}"
            assert not status.st_mode & stat.S_IWOTH or path.is_symlink() or path in public, f"others can write {path}"
            own = path.relative_to(root).parts[0] == "models" or "mail" in path.parts
            assert status.st_uid != user or own, f"the server's user owns {path}"
    # Buildah leaves empty files at the mount points of the build.
    mounted = [*root.glob("wheels/*"), *root.glob("etc/pip*"), root / "etc/apt/apt.conf.d/99-of-the-builder"]
    left = [path for path in mounted if path.exists() and path.stat().st_size]
    left += [
        *root.glob("opt/pronk/*.log"),
        *root.glob("opt/pronk/lib/python3*/site-packages/pip"),
        *root.glob("var/cache/apt/*.bin"),
    ]
    assert not left, f"left behind by the build: {left}"
    assert not any((root / "models").iterdir()), "the volume begins with files"
    libraries = list(root.glob("opt/pronk/lib/python3*/site-packages/**/libllama.so*"))
    assert len({path.stat().st_ino for path in libraries}) == 1, "the engine's library is there more than once"


def check_server(image: Container) -> None:
    """a server answers, keeps its models in the volume, passes its health check, and SIGTERM ends it with 0"""
    with volume() as models:
        with running(image, models) as server:
            assert "Hello" in server.ask("tinychat")
            assert any(models.glob("blobs/*")), "the volume is empty"
            made = {"model": "kept", "from": "tinychat", "system": "x", "stream": False}
            assert server.post("/api/create", made)["status"] == "success"
            proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
            for environ in ({}, proxies):
                done = server.run(health(), environ)
                assert done.returncode == 0, done.stderr
            assert server.run(["id", "-un"]).stdout.strip() == "pronk"
            assert server.stop() == 0, server.log()
            assert server.run(health()).returncode != 0, "the health check finds a server that is gone"
            if has_variants(image):
                variant = VARIANT.search(server.log())
                assert variant, server.log()
                assert f"cpu_variant={variant[1]}" in server.log(), "the load's line does not name the variant"
                say(f"the log names the variant {variant[1]}")
        with running(image, models) as server:
            assert "Hello" in server.ask("kept")
            assert not has_variants(image) or "proved before" in server.log()


def check_keys(image: Container) -> None:
    """API keys are in the volume and count in the next container, as the key pair for registries does"""
    with volume() as models:
        with container() as first, running(first, models) as server:
            made = server.run(["pronk", "keys", "add", "laptop"])
            assert made.returncode == 0, made.stderr
        assert (models / ".ollama" / "api_keys.json").is_file()
        key = {"OLLAMA_API_KEY": made.stdout.strip()}
        with running(image, models) as server:
            assert server.run(["pronk", "list"]).returncode != 0, "the next container asks for no key"
            done = server.run(["pronk", "list"], key)
            assert done.returncode == 0, done.stderr
            assert server.run(health()).returncode == 0, "the health check needs a key"
            code = "from server.settings import Settings; print(Settings.from_env().keys_folder)"
            assert server.run(["/opt/pronk/bin/python", "-c", code]).stdout.strip() == "/models/.ollama"


def check_read_only(image: Container) -> None:
    """a read-only root with a /tmp in memory suffices for any user who owns the volume; others are told so"""
    with volume() as models:
        os.chown(models, 0, 0)
        barred = ReadOnlyServer(image, models, models.parent / "server.log", {}, "/")
        try:
            assert barred.ended() == 1, barred.log()
        finally:
            barred.end()
        log = barred.log()
        assert "/models" in log, log
        assert "Traceback" not in log, log
        os.chown(models, STRANGER, STRANGER)
        with running(image, models, kind=ReadOnlyServer) as server:
            assert server.run(["sh", "-c", "echo x > /opt/x"]).returncode != 0
            assert "Hello" in server.ask("tinychat")
            assert server.run(health()).returncode == 0
            assert server.stop() == 0, server.log()
        assert all(path.lstat().st_uid == STRANGER for path in models.rglob("*"))


def check_ollamas_volume(image: Container) -> None:
    """the volume of an Ollama container is taken as it is, by root without capabilities"""
    with volume() as models:
        shutil.copytree(STORE, models / "models")
        os.chown(models, 0, 0)
        with running(image, models, kind=OllamasServer) as server:
            assert "tinymsgs:v1" in server.names(), server.log()
            assert "Hello" in server.ask("tinychat")
            assert server.run(["pronk", "list"]).returncode == 0
            assert server.stop() == 0, server.log()
        assert (models / "models/manifests/registry.ollama.ai/library/tinychat/latest").stat().st_uid == 0


def check_planted(image: Container) -> None:
    """no module is loaded from the working directory"""
    with volume() as models:
        for name in ("cpu", "cpu-planted"):
            compile_module(models / f"libggml-{name}.so", PLANTED)
        shutil.copy(F16, models / "m.gguf")
        with running(image, models, folder="/models", GGML_BACKEND_PATH="/models/libggml-cpu.so") as server:
            assert "Hello" in server.ask("tinychat")
            quantized = {"model": "q", "modelfile": "FROM /models/m.gguf", "quantize": "q8_0", "stream": False}
            assert server.post("/api/create", quantized)["status"] == "success"
            assert "PLANTED" not in server.log()


def check_fallback(image: Container) -> None:
    """where the best variant dies, the next one is used, and the log says so"""
    with volume() as models, container() as copy:
        [folder] = {path.parent for path in copy.root.glob("opt/pronk/lib/python3*/site-packages/**/libggml-cpu-*.so")}
        compile_module(folder / "libggml-cpu-dying.so", DYING)
        with running(copy, models) as server:
            assert "Hello" in server.ask("tinychat")
            log = server.log()
            assert "CPU variant dying of llama.cpp is not used: the engine's self-test died on" in log, log
            assert "SIGILL" in log
            assert VARIANT.findall(log)[-1] != "dying"


CHECKS = (check_files, check_server, check_keys, check_read_only, check_ollamas_volume, check_planted)


def has_variants(image: Container) -> bool:
    """Whether the image has CPU variants to choose from."""
    return any(image.root.glob("opt/pronk/lib/python3*/site-packages/**/libggml-cpu-*.so"))


def health() -> list[str]:
    """The command of the image's health check."""
    test = config()["Healthcheck"]["Test"]
    assert test[0] == "CMD", test
    return list(test[1:])


# Containers.


@dataclass(frozen=True)
class Container:
    """A container without processes: its name, and its root folder."""

    name: str
    root: Path


@contextmanager
def container(image: str = IMAGE) -> Iterator[Container]:
    """A new container of an image."""
    name = buildah("from", image, capture=True).strip()
    try:
        # Buildah would mount its own folder over the image's volume.
        buildah("config", "--volume", "/models-", name, capture=True)
        yield Container(name, Path(buildah("mount", name, capture=True).strip()))
    finally:
        buildah("rm", name, capture=True)


@contextmanager
def volume() -> Iterator[Path]:
    """A folder for models, owned by the server's user, as Docker does."""
    with tempfile.TemporaryDirectory(prefix="pronk-docker-") as folder, container() as made:
        models = Path(folder, "models")
        models.mkdir()
        status = (made.root / "models").stat()
        os.chown(models, status.st_uid, status.st_gid)
        Path(folder).chmod(0o755)
        yield models


class Server:
    """The image's server in a container; `log` is a file."""

    def __init__(self, made: Container, models: Path, log: Path, environ: Mapping[str, str], folder: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._made, self._models, self._log = made, models, log
        self._environ = {"OLLAMA_HOST": f"0.0.0.0:{self._port}", **environ}
        self._folder = folder
        command = config()["Entrypoint"] + config()["Cmd"]
        with log.open("w") as file:
            self._process = subprocess.Popen(self._command(command, {}), stdout=file, stderr=file)

    def run(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run another command in the same container."""
        return subprocess.run(
            self._command(command, environ or {}), capture_output=True, text=True, check=False, timeout=PATIENCE
        )

    def ask(self, model: str) -> str:
        """A model's answer to a greeting."""
        options = {"temperature": 0, "seed": 1}
        body = {"model": model, "prompt": "Hello!", "stream": False, "think": False, "options": options}
        return str(self.post("/api/generate", body)["response"])

    def names(self) -> list[str]:
        """The names of the stored models."""
        with _direct.open(f"http://127.0.0.1:{self._port}/api/tags", timeout=PATIENCE) as answer:
            return [model["name"] for model in json.load(answer)["models"]]

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request, which must succeed."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", json.dumps(body).encode())
        with _direct.open(request, timeout=PATIENCE) as answer:
            return dict(json.load(answer))

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                _direct.open(f"http://127.0.0.1:{self._port}/api/version", timeout=PATIENCE).close()
            except OSError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.1)
            else:
                return

    def stop(self) -> int:
        """Send SIGTERM to the server as `docker stop` does; returns its exit code."""
        processes = [psutil.Process(self._process.pid), *_children(self._process.pid)]
        [server] = [process for process in processes if process.name() == "pronk"]
        server.terminate()
        return self._process.wait(PATIENCE)

    def ended(self) -> int:
        """Wait until it has ended by itself; returns its exit code."""
        return self._process.wait(PATIENCE)

    def end(self) -> None:
        """Kill what is left of it."""
        if self._process.poll() is None:
            self._process.terminate()
            for child in _children(self._process.pid):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            self._process.wait(PATIENCE)

    def log(self) -> str:
        """The log so far."""
        return self._log.read_text(errors="replace")

    def _command(self, command: Sequence[str], environ: Mapping[str, str]) -> list[str]:
        variables = [word for pair in ({**self._environ, **environ}).items() for word in ("--env", "=".join(pair))]
        options = ["--isolation", "chroot", "--volume", f"{self._models}:/models", "--workingdir", self._folder]
        return [*_BUILDAH, "run", *options, *variables, self._made.name, "--", *command]


class ReadOnlyServer(Server):
    """The same as `docker run --read-only --tmpfs /tmp --user STRANGER`, which buildah does not have."""

    def _command(self, command: Sequence[str], environ: Mapping[str, str]) -> list[str]:
        variables = [*config()["Env"], *("=".join(pair) for pair in ({**self._environ, **environ}).items())]
        inside = [
            "chroot",
            f"--userspec={STRANGER}:{STRANGER}",
            str(self._made.root),
            "env",
            "-i",
            *variables,
            *command,
        ]
        outside = ["unshare", "--mount", "sh", "-euc", READ_ONLY, "sh", str(self._made.root), str(self._models)]
        return [*outside, *inside]


class OllamasServer(Server):
    """As docs/migration.md has it: where Ollama's container has its files, as root, who may do no more than others."""

    def _command(self, command: Sequence[str], environ: Mapping[str, str]) -> list[str]:
        own = {"HOME": "/root", "OLLAMA_MODELS": "/root/.ollama/models"}
        variables = [
            word for pair in ({**self._environ, **own, **environ}).items() for word in ("--env", "=".join(pair))
        ]
        rights = ["--user", "0:0", "--cap-drop", "ALL"]
        options = ["--isolation", "chroot", "--volume", f"{self._models}:/root/.ollama", *rights]
        return [*_BUILDAH, "run", *options, *variables, self._made.name, "--", *command]


@contextmanager
def running(
    made: Container, models: Path, folder: str = "/", kind: type[Server] = Server, **environ: str
) -> Iterator[Server]:
    """A running server, ended with the context."""
    server = kind(made, models, models.parent / "server.log", environ, folder)
    try:
        server.wait()
        yield server
    finally:
        server.end()


def compile_module(path: Path, source: str) -> None:
    """Compile a library for the container with this machine's compiler."""
    command = ["cc", "-shared", "-fPIC", "-o", str(path), "-x", "c", "-"]
    subprocess.run(command, input=source, text=True, check=True)


# Commands.

_BUILDAH = ("buildah", "--root", str(CACHE / "storage"), "--runroot", str(CACHE / "run"))
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def buildah(command: str, *arguments: str, capture: bool = False) -> str:
    """Run buildah. Returns its output with `capture`, else writes it to the build log."""
    isolation = ("--isolation", "chroot") if command in ("build", "run") else ()
    whole = [*_BUILDAH, command, *isolation, *arguments]
    if capture:
        return output(whole)
    with (CACHE / "build.log").open("a") as log:
        done = subprocess.run(whole, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = (CACHE / "build.log").read_text(errors="replace").splitlines()[-30:]
        raise SystemExit("\n".join([*tail, f"buildah {command} failed; the whole output is in {CACHE / 'build.log'}"]))
    return ""


def output(command: Sequence[str]) -> str:
    """The standard output of a command that must succeed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, flush=True)


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


if __name__ == "__main__":
    sys.exit(main())
