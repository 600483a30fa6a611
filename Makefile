# `make run` and `make test` prepare all that they need; a second call finds it done.
#   PYTHON=python3.12 make run        another interpreter than the newest one found (3.11 or newer)
#   CMAKE_ARGS=-DGGML_CUDA=on make engine  how llama.cpp is compiled; needed once, before make run or after
#   OLLAMA_HOST=127.0.0.1:11435 make run  another address; docs/environment.md has all variables

VENV := .venv
BIN := $(VENV)/bin
PROCESSES := 2# that run tests; their servers and models use all cores
READY := $(VENV)/.ready
READY_TO_TEST := $(VENV)/.ready-to-test

.PHONY: run engine test coverage docker-test check tables bench bench-schema faults memory fuzz clients clean

run: $(READY)
	@$(BIN)/python -m scripts.first_run

# Compiles llama.cpp anew and proves it.
engine:
	scripts/setup engine
	@touch $(READY)

# Hundreds of processes start: they keep what they have compiled, even where Python should write no bytecode.
test: $(READY_TO_TEST)
	scripts/install-test-packages
	@$(MAKE) --no-print-directory check
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# What the tests cover: the same tests in one process, half as long again.
coverage: $(READY_TO_TEST)
	@mkdir -p .cache
	$(BIN)/coverage run -m pytest
	@for room in cli server engine modelfile registry; do \
		printf 'coverage of %-10s %s %%\n' $$room "$$($(BIN)/coverage report --format=total --include="$$room/*")"; done

# What reads the code without running it.
check: $(READY_TO_TEST)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.tables --check

# Writes the tables in docs/ anew.
tables: $(READY_TO_TEST)
	$(BIN)/python -m scripts.tables

# What Pronk costs, fresh and after mixed traffic: beside a bare loop over llama.cpp, or beside other servers, as in
# AGAINST="http://127.0.0.1:11500 http://127.0.0.1:8080". One or two hours on two cores, with QUICK=1 twenty minutes.
bench: $(READY_TO_TEST)
	$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(AGAINST),--against $(AGAINST)) $(ARGS)

# How much of JSON Schema is enforced, measured on the JSON-Schema-Test-Suite: writes the table of docs/json-schema.md, or
# with QUICK=1 only prints one. SUITE=path/to/checkout takes another suite than the one in the source of `jsonschema`.
bench-schema: $(READY_TO_TEST)
	$(BIN)/python -m bench.schema $(if $(SUITE),--suite $(SUITE)) $(if $(QUICK),--answers 2,--write) $(ARGS)

# Kills, cancels and overloads real servers, and prints what was measured beside the goals: half an hour, or with QUICK=1
# three minutes.
faults: $(READY_TO_TEST)
	$(BIN)/python -m tests.faults $(if $(QUICK),--quick) $(ARGS)

# What loads take beside what was planned for them: ten minutes, or with QUICK=1 three.
memory: $(READY_TO_TEST)
	$(BIN)/python -m tests.memory $(if $(QUICK),--quick) $(ARGS)

# Makes requests of the OpenAPI document and sends them to a real server: half an hour at most, or with QUICK=1 two
# minutes. TARGET=bodies makes broken inputs of another kind: docs/fuzzing.md has all targets.
fuzz: $(READY_TO_TEST)
	$(BIN)/python -m tests.fuzz $(TARGET) $(if $(QUICK),--inputs 600 --minutes 1.5) $(ARGS)

# Installs clients that other people write (LangChain, LiteLLM, the AI SDK, ...) and tries them on a real server: some
# minutes, or with QUICK=1 the lightest ones. ARGS="--only langchain" takes one.
clients: $(READY_TO_TEST)
	$(BIN)/python -m tests.clients.third_party $(if $(QUICK),--quick) $(ARGS)

# Builds the image and tries it; needs root and Debian or Ubuntu. QUICK=1 takes the engine that is installed here.
docker-test: $(READY)
	$(BIN)/python -m scripts.docker_test

clean:
	rm -rf $(VENV) .cache build dist *.egg-info .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	scripts/setup
	@touch $@

$(READY_TO_TEST): $(READY)
	scripts/setup test
	@touch $@
