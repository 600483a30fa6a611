"""Settings, from environment variables. No other module of the server reads the environment.

`python -m server.settings` prints the table of docs/environment.md.
"""

# ruff: noqa: RUF009 - `variable` makes the dataclass fields; nothing mutable is shared

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from server import env
from server.env import Address

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable: its parser, its default and meaning for the documentation."""

    name: str
    parse: Callable[[str], Any]
    shown: str
    meaning: str


def variable(name: str, parse: Callable[[str], T], default: T, shown: str, meaning: str) -> T:
    """A field of `Settings` that an environment variable fills."""
    return field(default=default, metadata={"variable": Variable(name, parse, shown, meaning)})


class HomeMissing(Exception):
    """A path needs the home directory, which is unknown; `str()` names the variable to set instead."""

    def __init__(self, variable: str) -> None:
        super().__init__(f"no home directory is known: set HOME or {variable}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of a server; a client reads OLLAMA_HOST of it.

    Durations are in seconds (inf: no limit), sizes in bytes; 0 or None: the server chooses. `environ` is the whole
    environment, `warnings` are the bad values in it.
    """

    address: Address = variable(
        "OLLAMA_HOST", env.parse_address, Address(), "127.0.0.1:11434", "where the server listens and clients connect"
    )
    models: Path = variable(
        "OLLAMA_MODELS", Path, Path("~/.ollama/models"), "~/.ollama/models", "the folder of the models"
    )
    keep_alive: float = variable(
        "OLLAMA_KEEP_ALIVE", env.parse_keep_alive, 300.0, "5m", "how long an idle model stays loaded; negative: forever"
    )
    load_timeout: float = variable(
        "OLLAMA_LOAD_TIMEOUT", env.parse_timeout, 300.0, "5m", "how long a load may stand still; 0: no limit"
    )
    context_length: int = variable(
        "OLLAMA_CONTEXT_LENGTH",
        env.parse_uint,
        0,
        "from GPU memory; 4096 on CPU",
        "context length of requests and models without `num_ctx`; unless it is set, theirs grows as needed",
    )
    preload: tuple[str, ...] = variable(
        "PRONK_PRELOAD",
        env.parse_list,
        (),
        "",
        "models to load at the start, with commas between, as far as they fit; `/readyz` waits for them",
    )
    num_parallel: int = variable(
        "OLLAMA_NUM_PARALLEL",
        env.parse_uint,
        0,
        "from memory",
        "most requests that one model works on at once, up to 128; 0: from memory",
    )
    max_loaded_models: int = variable(
        "OLLAMA_MAX_LOADED_MODELS",
        env.parse_uint,
        0,
        "3 per GPU; 3 on CPU",
        "most models loaded at once; 0: the default",
    )
    max_queue: int = variable(
        "OLLAMA_MAX_QUEUE",
        env.parse_uint,
        512,
        "512",
        "most requests that wait for a load behind the first one; more get a 503",
    )
    flash_attention: bool | None = variable(
        "OLLAMA_FLASH_ATTENTION", env.parse_automatic_bool, None, "automatic", "flash attention: 1 on, 0 off"
    )
    kv_cache_type: str = variable(
        "OLLAMA_KV_CACHE_TYPE",
        env.parse_cache_types,
        "f16",
        "f16",
        f"type of the KV cache, or those of K and V, as in q8_0,q4_0: {', '.join(env.CACHE_TYPES)}",
    )
    gpu_overhead: int = variable("OLLAMA_GPU_OVERHEAD", env.parse_uint, 0, "0", "bytes left free on each GPU")
    sched_spread: bool = variable(
        "OLLAMA_SCHED_SPREAD",
        env.parse_bool,
        False,
        "0",
        "spread each model over all GPUs; else it takes as few as it fits on",
    )
    gpu_fit: bool = variable(
        "LLAMA_ARG_FIT", env.parse_switch, True, "on", "off: put all layers on the GPUs, whatever they have free"
    )
    gpu_margins: tuple[int, ...] = variable(
        "LLAMA_ARG_FIT_TARGET",
        env.parse_uints,
        (1024,),
        "1024",
        "MiB left free on each GPU for the driver and what no plan knows; one number for each, or one for all",
    )
    least_context: int = variable(
        "LLAMA_ARG_FIT_CTX",
        env.parse_uint,
        4096,
        "4096",
        "tokens to which an automatic context may be lowered before layers leave the GPUs",
    )
    swa_full: bool = variable(
        "LLAMA_ARG_SWA_FULL",
        env.parse_bool,
        False,
        "0",
        "1: layers with a sliding window have as large a KV cache as the others, from which more can be reused",
    )
    go_template: bool | None = variable(
        "OLLAMA_GO_TEMPLATE", env.parse_tristate, None, "automatic", "1 or 0 prefers or forbids stored Go templates"
    )
    origins: tuple[str, ...] = variable(
        "OLLAMA_ORIGINS", env.parse_list, (), "", "further web origins that may call the server; `*`: all"
    )
    allowed_hosts: tuple[str, ...] = variable(
        "OLLAMA_ALLOWED_HOSTS",
        env.parse_list,
        (),
        "",
        "further `Host` names for browsers; `*.domain`: all below; `*`: all",
    )
    no_prune: bool = variable("OLLAMA_NOPRUNE", env.parse_bool, False, "0", "keep unused blobs at start")
    no_history: bool = variable("OLLAMA_NOHISTORY", env.parse_bool, False, "0", "no history of what is typed")
    debug: int = variable(
        "OLLAMA_DEBUG", env.parse_debug, 0, "0", "how much the log tells, see [logs](logs.md): 0 INFO, 1 DEBUG, 2 TRACE"
    )
    log_requests: bool = variable(
        "OLLAMA_DEBUG_LOG_REQUESTS",
        env.parse_bool,
        False,
        "0",
        "1: keep the bodies of the newest requests in a temporary folder, see [logs](logs.md#requests-as-files)",
    )
    log_format: str = variable(
        "PRONK_LOG_FORMAT", env.parse_log_format, "text", "text", "form of the log's lines: `text` or `json`"
    )
    version: str = variable(
        "PRONK_VERSION_REPORTED",
        env.parse_header,
        "0.33.0",
        "0.33.0",
        "the version that `/api/version` reports to clients",
    )
    lookup: bool = variable(
        "PRONK_LOOKUP",
        env.parse_bool,
        True,
        "1",
        "0: no tokens are drafted from what a text holds already; they are where that is faster",
    )
    prompt_cache: int | None = variable(
        "PRONK_PROMPT_CACHE_RAM",
        env.parse_uint,
        None,
        "from memory",
        "bytes of memory that each model may use for prompts seen before, beside its KV cache; 0: none",
    )
    disk_cache: tuple[Path, int] | None = variable(
        "PRONK_PROMPT_CACHE_DISK",
        env.parse_folder_and_size,
        None,
        "off",
        "a folder and the bytes that prompts seen before may take in it, as in `/var/cache/pronk:20GiB`: they outlive "
        "the model's process and the server, see [memory](memory.md#prompts-on-disk)",
    )
    image_cache: int = variable(
        "PRONK_IMAGE_CACHE",
        env.parse_uint,
        256 << 20,
        "268435456",
        "most bytes in which each model keeps what it has seen in images, so that they are not encoded again",
    )
    max_body: int = variable("PRONK_MAX_BODY", env.parse_uint, 64 << 20, "67108864", "largest JSON body in bytes")
    local_paths: bool = variable(
        "PRONK_LOCAL_PATHS",
        env.parse_bool,
        True,
        "1",
        "clients on this machine may name its files when they create, and are told where a model's are",
    )
    api_keys: str = variable(
        "PRONK_API_KEYS",
        str,
        "",
        "",
        "API keys, `KEY` or `NAME:SCOPE+SCOPE:KEY`, with commas between: see [API keys](api-keys.md)",
    )
    api_keys_file: Path | None = variable(
        "PRONK_API_KEYS_FILE",
        Path,
        None,
        "~/.ollama/api_keys.json",
        "the file of API keys; requests need one if it exists",
    )
    require_api_keys: bool = variable(
        "PRONK_REQUIRE_API_KEYS", env.parse_bool, False, "0", "1: do not start without an API key"
    )
    watchdog: float = variable(
        "PRONK_WATCHDOG",
        env.parse_timeout,
        10.0,
        "10s",
        "a child process that gives no sign of life for so long is killed, and replaced when it is needed; 0: never",
    )
    unread_timeout: float = variable(
        "PRONK_UNREAD_TIMEOUT",
        env.parse_timeout,
        60.0,
        "1m",
        "an answer of which its client reads nothing for so long is cancelled if others wait for its place; 0: never",
    )
    sandbox: bool = variable(
        "PRONK_SANDBOX",
        env.parse_bool,
        True,
        "1",
        "0: child processes may open sockets, write files and gain privileges; Linux only",
    )
    drain_timeout: float = variable(
        "PRONK_DRAIN_TIMEOUT", env.parse_span, 5.0, "5s", "how long running answers may go on after SIGTERM"
    )
    ping_interval: float = variable(
        "PRONK_PING_INTERVAL",
        env.parse_span,
        15.0,
        "15s",
        "a stream of `/v1/*` that is silent for so long gets a ping, which keeps proxies from cutting it; 0: none",
    )
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings of an environment, by default the process's own. A bad value becomes the default and a warning."""
        environ = dict(os.environ if environ is None else environ)
        values: dict[str, Any] = {}
        warnings = []
        for name, row in variables().items():
            if not (text := env.clean(environ.get(row.name, ""))):
                continue
            try:
                values[name] = row.parse(text)
            except env.Doubtful as doubt:
                values[name] = doubt.value
                warnings.append(f"invalid value of {row.name}, {doubt}: {text!r}")
            except ValueError:
                warnings.append(f"invalid value of {row.name}, using the default: {text!r}")
        level = env.clean(environ.get(RUNNER_LOG, ""))
        if level and level.lower() not in LEVELS:
            warnings.append(f"invalid value of {RUNNER_LOG}, using the server's level: {level!r}")
        return cls(**values, environ=environ, warnings=tuple(warnings))

    @property
    def models_folder(self) -> Path:
        """The models folder with `~` expanded. Raises HomeMissing."""
        try:
            return self.models.expanduser()
        except RuntimeError:
            raise HomeMissing("OLLAMA_MODELS") from None

    @property
    def keys_folder(self) -> Path:
        """The folder of the key pair that registries know this server by: `~/.ollama`, or the models folder.

        Raises HomeMissing.
        """
        home = self.environ.get("HOME")
        try:
            return (Path(home) if home else Path.home()) / ".ollama"
        except RuntimeError:
            return self.models_folder

    @property
    def keys_file(self) -> Path:
        """The file of API keys, with `~` expanded. Raises HomeMissing."""
        try:
            return self.api_keys_file.expanduser() if self.api_keys_file else self.keys_folder / "api_keys.json"
        except RuntimeError:
            raise HomeMissing("PRONK_API_KEYS_FILE") from None

    @property
    def missing_files(self) -> tuple[str, ...]:
        """Warnings for SSL_CERT_FILE and SSL_CERT_DIR that name nothing: the TLS library gives none."""
        named = {variable: self.environ.get(variable, "") for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
        missing = {variable: path for variable, path in named.items() if path and not os.path.exists(path)}
        return tuple(f"{variable} names what is not there: {path!r}" for variable, path in missing.items())

    @property
    def client_url(self) -> str:
        """The base URL for a client on this machine."""
        return self.address.url


RUNNER_LOG, LEVELS = "PRONK_RUNNER_LOG", ("trace", "debug", "info", "warning", "error")
OLLAMA_ONLY = (
    *("OLLAMA_AUTH", "OLLAMA_CLOUD_BASE_URL", "OLLAMA_EDITOR", "OLLAMA_EXPERIMENT"),
    *("OLLAMA_IGPU_ENABLE", "OLLAMA_INTEL_GPU", "OLLAMA_LLM_LIBRARY", "OLLAMA_MAX_TRANSFER_STREAMS"),
    *("OLLAMA_MULTIUSER_CACHE", "OLLAMA_NEW_ENGINE", "OLLAMA_NO_CLOUD", "OLLAMA_REMOTES", "OLLAMA_TMPDIR"),
    *("OLLAMA_VULKAN",),
)
"""Variables of Ollama that have no effect here."""
_SIMILARITY = 0.8  # difflib's ratio

ELSEWHERE = (
    ("HTTPS_PROXY", "", "the proxy on the way to https URLs: `[scheme://][name:password@]host[:port]`; also small"),
    ("HTTP_PROXY", "", "the same for http URLs; schemes are http, https, socks5"),
    ("ALL_PROXY", "", "the proxy where neither of the two is set"),
    ("NO_PROXY", "", "hosts, domains and networks that are reached without; `*`: all; this machine always is"),
    ("SSL_CERT_FILE", "the system's", "a file of certificates that registries are checked with"),
    ("SSL_CERT_DIR", "the system's", "a folder of them"),
    ("HF_ENDPOINT", "https://huggingface.co", "where models of Hugging Face come from"),
    ("HF_TOKEN", "", "the token for models there that not everybody may have"),
    ("CUDA_VISIBLE_DEVICES", "all", "the NVIDIA GPUs that are used"),
    ("PRONK_RUNNER_CPU_VARIANT", "the best that proves right", "the variant of llama.cpp's CPU backend, by its name"),
    (RUNNER_LOG, "as `OLLAMA_DEBUG`", f"what the models' processes log: {', '.join(LEVELS)}"),
)
"""Variables without a field of `Settings`: name, default and meaning."""


def variables() -> dict[str, Variable]:
    """The variables by the name of their field."""
    fields = dataclasses.fields(Settings)
    return {field.name: field.metadata["variable"] for field in fields if "variable" in field.metadata}


def known_variables() -> set[str]:
    """The names of all variables that take effect."""
    return {row.name for row in variables().values()} | {name for name, _, _ in ELSEWHERE} | {"OLLAMA_API_KEY"}


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Names such as ours that nobody reads, each with the one that may be meant, or "" if none is like it."""
    known = known_variables()
    names = sorted(name for name in environ if name.upper().startswith(("OLLAMA_", "PRONK_")))
    return {name: _nearest(name, known) for name in names if name not in known and name not in OLLAMA_ONLY}


def _nearest(name: str, known: set[str]) -> str:
    import difflib  # rarely needed, and the command line reads settings, too

    return next(iter(difflib.get_close_matches(name.upper(), sorted(known), 1, _SIMILARITY)), "")


def markdown() -> str:
    """The table of docs/environment.md."""
    head = ["| variable | default | meaning |", "|---|---|---|"]
    rows = [*((row.name, row.shown, row.meaning) for row in variables().values()), *ELSEWHERE]
    return "\n".join(head + [f"| `{name}` | {shown} | {meaning} |" for name, shown, meaning in rows])


if __name__ == "__main__":
    print(markdown())
