#!/usr/bin/env bash
# Compiles the engine for a GPU on a machine without a network, in a few minutes. Two steps:
#
#   scripts/gpu_build.sh pack   here, with a network: collects sources and wheels in .gpu, at most 25 MB
#   scripts/gpu_build.sh        there, beside .gpu: installs everything in .gpu/site; then scripts/gpu_check.sh
#
# The machine needs Python with pip, CMake, ninja, a C++ compiler and nvcc. To pack, PYTHON_VERSION says which Python it
# has (3.12), and HAS which packages, so that they need not travel. To build, BACKEND is cuda or cpu, and CUDA_ARCH the
# card's architecture (asked of the card; native where it does not tell).
set -euo pipefail
cd "$(dirname "$0")/.."

HOME_DIR=.gpu
SITE=$HOME_DIR/site
SOURCE=$HOME_DIR/llama-cpp-python.tar.xz

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

say() {
  printf '%4d s  %s\n' "$SECONDS" "$*"
}

# What neither CUDA nor the CPU needs: other backends, models, tests, pages, and the history.
trim() {
  local llama=vendor/llama.cpp
  tar cJf "$SOURCE" -C "$1" --exclude=.git \
    --exclude=./docs --exclude=./docker --exclude=./examples --exclude=./tests \
    --exclude="./$llama/"{app,benches,ci,conversion,docs,examples,gguf-py,media,models,pocs,tests,.devops,.github} \
    --exclude="./$llama/tools/ui/"{src,static,tests} --exclude='*.mp4' --exclude='*.pdf' --exclude="./$llama/*.py" \
    --exclude="./$llama/ggml/src/ggml-"{blas,cann,et,hexagon,hip,metal,musa,opencl,openvino,rpc,sycl,virtgpu,vulkan,webgpu,zdnn,zendnn} \
    .
}

pack() {
  local python=${PYTHON:-python3} folder platforms=() needs=()
  local version=${PYTHON_VERSION:-3.12}
  rm -rf "$HOME_DIR" && mkdir -p "$HOME_DIR/wheels"
  folder=$(mktemp -d)
  trap "rm -rf '$folder'" EXIT
  read -r engine < <(grep -o 'llama-cpp-python==[0-9.]*' pyproject.toml)
  say "fetching the source of $engine"
  "$python" -m pip download --quiet --no-deps --no-binary :all: -d "$folder" "$engine"
  mkdir "$folder/source"
  tar xzf "$folder"/llama_cpp_python-*.tar.gz -C "$folder/source" --strip 1
  trim "$folder/source"
  for n in 39 38 35 34 31 28 27 24 17 12 5; do platforms+=(--platform "manylinux_2_${n}_x86_64"); done
  platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64 --platform any)
  while IFS= read -r need; do needs+=("$need"); done < <("$python" - <<'PYTHON'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
tests = [need for need in project["optional-dependencies"]["test"] if need.startswith(("pytest", "hypothesis"))]
print(*(need for need in project["dependencies"] if "llama-cpp-python" not in need), *tests, sep="\n")
print("scikit-build-core", "diskcache", sep="\n")
PYTHON
  )
  say "fetching wheels for Python $version"
  "$python" -m pip download --quiet --only-binary=:all: --implementation cp --abi "cp${version/./}" --abi abi3 --abi none \
    --python-version "$version" "${platforms[@]}" -d "$HOME_DIR/wheels" "${needs[@]}"
  for name in ${HAS:-}; do rm -f "$HOME_DIR/wheels/${name//-/_}"-[0-9]*.whl; done
  say "packed: $(du -sh "$SOURCE" | cut -f1) of sources, $(du -sh "$HOME_DIR/wheels" | cut -f1) of wheels in $HOME_DIR"
}

architecture() {
  local found
  found=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .) || true
  echo "${CUDA_ARCH:-${found:+$found-real}}"
}

build() {
  local python=${PYTHON:-python3} backend=${BACKEND:-cuda} arguments=(-DLLAMA_BUILD_TESTS=OFF) arch
  [ -f "$SOURCE" ] || fail "There is no $SOURCE. On a machine with a network: scripts/gpu_build.sh pack"
  if [ "$backend" = cuda ]; then
    command -v nvcc >/dev/null || fail "nvcc was not found: put the CUDA toolkit's bin on PATH, or set BACKEND=cpu"
    arch=$(architecture)
    arguments+=(-DGGML_CUDA=ON -DGGML_CUDA_FA_ALL_QUANTS=OFF -DGGML_CUDA_NCCL=OFF "-DCMAKE_CUDA_ARCHITECTURES=${arch:-native}")
  fi
  rm -rf "$SITE" "$HOME_DIR/build" && mkdir -p "$SITE" "$HOME_DIR/build"
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$SITE" "$HOME_DIR"/wheels/*.whl
  say "wheels installed for $("$python" --version)"
  tar xJf "$SOURCE" -C "$HOME_DIR/build"
  export PYTHONPATH=$PWD/$SITE${PYTHONPATH:+:$PYTHONPATH}
  export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
  say "compiling for $backend ${arch:-} with $CMAKE_BUILD_PARALLEL_LEVEL processes"
  if ! CMAKE_ARGS="${CMAKE_ARGS:-} ${arguments[*]}" "$python" -m pip install --verbose --no-index --no-deps \
    --no-build-isolation --target "$SITE" "$HOME_DIR/build" >"$HOME_DIR/build.log" 2>&1; then
    tail -n 30 "$HOME_DIR/build.log"
    fail "llama.cpp could not be compiled; the whole output is in $HOME_DIR/build.log"
  fi
  say "compiled"
  compile_peer || say "llama-server could not be compiled: the check goes on without it (see $HOME_DIR/peer.log)"
  "$python" -c 'from bench.models import Q4_K_M, Q8_0, prepare; prepare([Q8_0, Q4_K_M])' >"$HOME_DIR/models.log" 2>&1 ||
    { tail "$HOME_DIR/models.log"; fail "the models for the check could not be made"; }
  say "models made"
}

# llama-server on the same libraries, to compare with. Its page is left out.
compile_peer() {
  local llama=$HOME_DIR/build/vendor/llama.cpp peer=$HOME_DIR/peer libraries flags file
  libraries=$PWD/$SITE/lib
  flags="-O2 -std=c++17 -DNDEBUG -I$peer -I$llama -I$llama/include -I$llama/common -I$llama/ggml/include -I$llama/tools/mtmd -I$llama/tools/server -I$llama/vendor"
  rm -rf "$peer" && mkdir -p "$peer"
  sed 's/^#cmakedefine.*//; s/@N_ASSETS@/0/' "$llama/tools/ui/ui.h.in" >"$peer/ui.h"
  sed 's/@ASSET_ARRAYS@//; s/@ASSET_TABLE@//; s/@N_ASSETS@/0/g; s/@USE_GZIP@/false/' "$llama/tools/ui/ui.cpp.in" >"$peer/ui.cpp"
  for file in "$llama"/tools/server/*.cpp "$llama"/vendor/cpp-httplib/*.cpp "$peer/ui.cpp"; do
    echo "$file"
  done | FLAGS=$flags PEER=$peer xargs -P "$(nproc)" -I{} sh -c 'c++ $FLAGS -c {} -o "$PEER/$(basename {} .cpp).o"' >"$HOME_DIR/peer.log" 2>&1 || return 1
  c++ "$peer"/*.o -o "$peer/llama-server" -L"$libraries" -Wl,-rpath,"$libraries" -Wl,--allow-shlib-undefined \
    -lllama-common -lmtmd -lllama -lggml -lggml-base -lpthread -ldl >>"$HOME_DIR/peer.log" 2>&1 || return 1
  say "llama-server compiled"
}

case "${1:-}" in
  pack) pack ;;
  "") build ;;
  *) fail "usage: scripts/gpu_build.sh [pack]" ;;
esac
