"""The server process: `python -m server.main`, or `run` for the command line."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from server.stopping import exit_on_signals, leave_on_signals

if __name__ == "__main__":
    leave_on_signals()  # the imports below take most of the time until the server is there

import uvicorn

from engine import cpu_variant
from engine.engine import Engine, EngineConfig
from engine.loading import devices
from engine.selftest import processor
from modelfile import containment
from modelfile.backends import gpu_backends
from registry.errors import StoreError
from registry.logfields import fields
from registry.remote.proxies import Proxies
from registry.sizes import binary_size
from registry.storage.store import Store
from server import log
from server.app import create_app
from server.http.cors import InvalidOrigin
from server.http.hosts import is_loopback
from server.http.keys import KeysError
from server.http.listen import CannotListen, listen
from server.http.protocol import BoundedHttpProtocol
from server.http.serve import Server
from server.settings import HomeMissing, Settings, unknown_variables
from server.startup import UnusableModels, open_models, tell_settings
from server.streams import open_standard_streams

_KEEP_ALIVE = 120  # seconds that an idle connection stays open; clients pool them
_logger = logging.getLogger("pronk.server")


def run(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code. Prints on standard error why it cannot start."""
    leave_on_signals()
    open_standard_streams()
    log.configure(settings.debug, settings.log_format)
    for warning in (*settings.warnings, *Proxies.from_env(settings.environ).warnings, *settings.missing_files):
        _logger.warning("configuration: %s", warning)
    for name, nearest in unknown_variables(settings.environ).items():
        if nearest:  # others may be meant for another program
            _logger.warning("configuration: %s is not known; %s is", name, nearest)
    try:
        open_models(settings.models_folder)
        sock = listen(settings.address)
        tell_settings(settings)
        with exit_on_signals():
            variant = cpu_variant.choose(settings.environ, settings.models_folder)
        level = log.runner_level(settings.environ, settings.debug)
        sandbox = {} if settings.sandbox else {containment.SWITCH: "0"}
        settings = replace(settings, environ={**settings.environ, **variant, **level, **sandbox})
        _logger.info("Pronk %s", installation(settings.models_folder))
        engine = build_engine(settings)
        _seed(engine.models.store)
        app = create_app(settings, engine, engine.models)
    except (CannotListen, HomeMissing, InvalidOrigin, KeysError, UnusableModels) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    config = uvicorn.Config(
        app,
        http=BoundedHttpProtocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
    )
    hosts, origins = (", ".join(names) or None for names in (settings.allowed_hosts, settings.origins))
    keys = "required" if app.state.keys.closed else "none"
    _logger.info("access", extra=fields(address=settings.address.shown, keys=keys, hosts=hosts, origins=origins))
    if not (is_loopback(settings.address.host) or app.state.keys.closed):
        _logger.warning(
            "no authentication: everyone who can reach this address can use and change the models; "
            "`pronk keys add NAME` makes an API key"
        )
    if settings.address.scheme == "https":
        _logger.warning("plain HTTP is spoken here, whatever OLLAMA_HOST says: TLS must stand in front")
    Server(config, settings.drain_timeout).run([sock])
    return 0


def _seed(store: Store) -> None:
    """Store the bundled models where there are none yet, so that they are listed from the start."""
    try:
        store.seed()
    except StoreError as error:
        _logger.warning("bundled models are not stored: %s", error)


def installation(models: Path) -> str:
    """Our version, the models folder and the hardware, in one line."""
    threads = devices.compute_threads()
    try:
        release = version("pronk")
    except PackageNotFoundError:
        release = "(not installed)"
    return (
        f"{release}, models in {models}, processor {processor()}, {threads} "
        f"thread{'s' * (threads != 1)}, {binary_size(devices.host().total)} memory, "
        f"backends for GPUs: {', '.join(sorted(gpu_backends())) or 'none'}"
    )


def build_engine(settings: Settings) -> Engine:
    """The engine for these settings and their store. Raises HomeMissing."""
    config = EngineConfig(
        keep_alive=settings.keep_alive,
        load_timeout=settings.load_timeout,
        context_length=settings.context_length,
        go_templates=settings.go_template,
        num_parallel=settings.num_parallel,
        max_loaded_models=settings.max_loaded_models,
        max_queue=settings.max_queue,
        flash_attention=settings.flash_attention,
        swa_full=settings.swa_full,
        lookup=settings.lookup,
        kv_cache_type=settings.kv_cache_type,
        gpu_overhead=settings.gpu_overhead,
        gpu_margins=tuple(size << 20 for size in settings.gpu_margins),
        gpu_fit=settings.gpu_fit,
        least_context=settings.least_context,
        sched_spread=settings.sched_spread,
        prompt_cache=settings.prompt_cache,
        disk_cache=settings.disk_cache,
        image_cache=settings.image_cache,
        watchdog=settings.watchdog,
        unread_timeout=settings.unread_timeout,
        environ=settings.environ,
    )
    return Engine(Store(settings.models_folder), config)


if __name__ == "__main__":
    sys.exit(run(Settings.from_env()))
