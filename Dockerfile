# Pronk for the CPU; for NVIDIA GPUs see README.md. Both images need apt-get, and the same version of Python 3.11 or newer.
ARG BUILD_IMAGE=debian:trixie-slim
ARG RUN_IMAGE=debian:trixie-slim

FROM ${BUILD_IMAGE} AS build
# Not for the very CPU that it is built on: an image goes places.
ARG CMAKE_ARGS="-DGGML_NATIVE=off"
ENV PIP_NO_CACHE_DIR=1
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/pronk
WORKDIR /src
# llama.cpp first: it takes minutes, and does not change with our own code.
COPY pyproject.toml ./
COPY scripts/install_engine.py scripts/build_flags.py scripts/
RUN /opt/pronk/bin/python scripts/install_engine.py
COPY README.md LICENSE ./
COPY registry registry
COPY modelfile modelfile
COPY engine engine
COPY server server
COPY cli cli
RUN /opt/pronk/bin/pip install .

FROM ${RUN_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 libstdc++6 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home pronk \
    && install -d -o pronk -g pronk /models
COPY --from=build /opt/pronk /opt/pronk
ENV PATH=/opt/pronk/bin:$PATH \
    OLLAMA_HOST=0.0.0.0:11434 \
    OLLAMA_MODELS=/models
USER pronk
VOLUME /models
EXPOSE 11434
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["pronk", "ps"]
ENTRYPOINT ["pronk"]
CMD ["serve"]
