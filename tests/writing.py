"""A model that really writes, for what means little with one of four million parameters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scripts import smollm2
from tests.outside import missing
from tests.serving import Served


def store_writer(served: Served) -> str:
    """Put the model on a server; its name. Ends the test where it cannot be had."""
    try:
        path = smollm2.modelfile()
    except smollm2.Unavailable as error:
        missing(f"{smollm2.NAME} cannot be had: {error}")
    command = [str(Path(sys.executable).with_name("pronk")), "create", smollm2.NAME, "--file", str(path)]
    subprocess.run(command, env=os.environ | {"OLLAMA_HOST": served.url}, capture_output=True, check=True)
    return smollm2.NAME
