#!/usr/bin/env bash
# Tries a GPU in four minutes with what scripts/gpu_build.sh has installed in .gpu, or with .venv where that is missing, and
# prints after each step; at the end a table. Without a GPU it says so and does on the CPU what can be done there.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -d .gpu/site ]; then
  export PYTHONPATH=$PWD/.gpu/site${PYTHONPATH:+:$PYTHONPATH}
  exec "${PYTHON:-python3}" -u -m scripts.gpu_check "$@"
fi
exec "${PYTHON:-.venv/bin/python}" -u -m scripts.gpu_check "$@"
