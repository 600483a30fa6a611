# Pronk for the CPU; for NVIDIA GPUs see docs/docker.md. Both images need apt-get, and the same version of Python 3.11 or newer.
ARG BUILD_IMAGE=debian:trixie-slim
ARG RUN_IMAGE=debian:trixie-slim

FROM ${BUILD_IMAGE} AS build
ARG BUILD_PACKAGES="build-essential cmake"
# An image goes places: it has a CPU backend for each generation of processors, and the server takes the best one.
ARG CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_CPU_ALL_VARIANTS=ON -DGGML_BACKEND_DL=ON"
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update \
    && apt-get install -y --no-install-recommends ${BUILD_PACKAGES} python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/pronk
WORKDIR /src
# llama.cpp first: it takes about 20 minutes of a processor's time, and does not change with our own code. A wheel of
# llama-cpp-python in /wheels is taken instead, if whoever builds mounts one there.
ARG ENGINE_DIGEST=""
COPY pyproject.toml ./
COPY scripts/install_engine.py scripts/build_flags.py scripts/link_duplicates.py scripts/
RUN set -e; : "${ENGINE_DIGEST}"; \
    for wheel in /wheels/llama_cpp_python-*.whl; do if [ -e "$wheel" ]; then /opt/pronk/bin/pip install "$wheel"; fi; done; \
    /opt/pronk/bin/python scripts/install_engine.py; \
    /opt/pronk/bin/python scripts/link_duplicates.py /opt/pronk; \
    rm -f /opt/pronk/llama-cpp-python.log
RUN /opt/pronk/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && /opt/pronk/bin/pip install -r requirements.txt
COPY README.md LICENSE ./
COPY registry registry
COPY modelfile modelfile
COPY engine engine
COPY server server
COPY cli cli
RUN /opt/pronk/bin/pip install . && /opt/pronk/bin/pip uninstall --yes setuptools pip

FROM ${RUN_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 libstdc++6 python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
    && useradd --system --no-create-home --home-dir /models pronk \
    && install -d -o pronk -g pronk /models
COPY --from=build /opt/pronk /opt/pronk
COPY deploy/health-check /usr/local/bin/pronk-health
# HOME is the volume, so the key pair for registries and the API keys (both in ~/.ollama) outlive a container. It is named
# here because a container with another --user has no home directory.
ENV PATH=/opt/pronk/bin:$PATH \
    HOME=/models \
    OLLAMA_HOST=0.0.0.0:11434 \
    OLLAMA_MODELS=/models
USER pronk
VOLUME /models
EXPOSE 11434
STOPSIGNAL SIGTERM
# At its first start on a kind of processor the server proves its backend before it answers.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["pronk-health"]
ENTRYPOINT ["pronk"]
CMD ["serve"]
LABEL org.opencontainers.image.title="pronk" \
    org.opencontainers.image.description="An Ollama-compatible inference server in Python: FastAPI in front, llama.cpp behind, continuous batching between." \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="0.1.0"
