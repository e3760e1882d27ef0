# Everything a checkout can do. A bare one needs only Python 3.11 (or newer) and make; the rest goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCKS := requirements
RUNTIME := $(VENV)/.runtime-installed
DEVELOPMENT := $(VENV)/.development-installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: bench chaos check clean demo docs format fuzz help leaving lock redis serve test timing

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(RUNTIME) ## Two simulated backends with the gateway in front, and curl lines to try
	$(BIN)/proxyctl demo

serve: $(RUNTIME) ## The gateway in front of real backends (.env, plugins.toml)
	$(BIN)/proxyctl serve

test: check redis ## Lint, types, layers, tests: what CI runs; PYTEST_ARGS='-k name' narrows the tests
	$(BIN)/pytest -n 3 --dist loadfile $(PYTEST_ARGS)

check: $(DEVELOPMENT) ## Lint, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(DEVELOPMENT) ## Format the code and apply the safe fixes of the linter
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(DEVELOPMENT) ## Write the generated pages of docs/ from the code
	$(BIN)/python scripts/generate_docs.py

bench: $(RUNTIME) ## Speed, side by side with nginx, HAProxy and LiteLLM (benchmarks/); BENCH_ARGS=--quick
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

fuzz: $(DEVELOPMENT) ## The fuzzers of the tests for an hour or so instead of seconds; FUZZ=50 for less
	FUZZ=$(or $(FUZZ),1000) $(BIN)/pytest -s --timeout=0 tests/stories/test_fuzz.py tests/stories/test_openapi.py

timing: $(RUNTIME) ## Whether the time of a refusal tells if a model exists; BENCH_ARGS=--pairs=1000
	$(BIN)/python benchmarks/denial_timing.py $(BENCH_ARGS)

chaos: $(DEVELOPMENT) ## Thousands of requests while backends die, hang and return, for ten minutes; CHAOS_ARGS='--minutes 2'
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

.PHONY: clients modelserver
clients: $(DEVELOPMENT) $(VENV)/.clients-installed ## LiteLLM, LangChain, LlamaIndex and Ollama's JavaScript library against a gateway
	$(BIN)/pytest -s -m clients tests/clients

modelserver: $(DEVELOPMENT) $(VENV)/.model-server-installed ## A real model server, some gigabytes, behind a gateway
	$(BIN)/pytest -m model_server tests/clients

.PHONY: downstream
downstream: $(DEVELOPMENT) ## The examples' tests against the built wheel, and all of them in one gateway
	$(BIN)/pytest -m downstream tests/contract/test_downstream.py $(PYTEST_ARGS)

leaving: $(RUNTIME) ## How soon it is noticed that a client has left, as a table (benchmarks/)
	$(BIN)/python benchmarks/leaving.py

lock: ## Pin what pyproject.toml asks for in requirements/; UPGRADE=1 takes the newest of everything
	scripts/lock $(VENV) $(LOCKS) $(if $(UPGRADE),--upgrade)

clean: ## Remove .venv and all that tools left behind
	rm -rf $(VENV) build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find core plugins tests scripts examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

redis: $(DEVELOPMENT)
	@scripts/redis-for-tests $(VENV) $(LOCKS)/redis.lock

# Of no use to anything else, and in an environment of their own.
$(VENV)/.clients-installed: $(LOCKS)/clients.lock tests/clients/package-lock.json | $(BIN)/python
	@echo "Installing client libraries into $(VENV)/clients ..."
	@$(BIN)/python -m venv $(VENV)/clients
	@$(VENV)/clients/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r $(LOCKS)/clients.lock
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js 18 or newer"; exit 1; }
	@npm ci --prefix tests/clients --no-audit --no-fund --silent
	@touch $@

$(VENV)/.model-server-installed: $(LOCKS)/model-server.lock | $(BIN)/python
	@echo "Installing a model server, some gigabytes, into $(VENV)/transformers ..."
	@$(BIN)/python -m venv $(VENV)/transformers
	@$(VENV)/transformers/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r $(LOCKS)/model-server.lock
	@touch $@

# Two stamps, so that trying the demo does not install the development tools. Whoever has those has the runtime too.
$(RUNTIME): $(LOCKS)/runtime.lock $(LOCKS)/build.lock pyproject.toml | $(BIN)/python
	@echo "Installing Herdgate into $(VENV) ..."
	@$(PIP) install --quiet --require-hashes -r $(LOCKS)/runtime.lock -r $(LOCKS)/build.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DEVELOPMENT): $(LOCKS)/dev.lock pyproject.toml | $(BIN)/python
	@echo "Installing Herdgate and its development tools into $(VENV) ..."
	@$(PIP) install --quiet --require-hashes -r $(LOCKS)/dev.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $(RUNTIME) $@

$(BIN)/python:
	@scripts/make-venv $(VENV)
