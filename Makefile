# Everything a newcomer types. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

SOLERA_CACHE ?= $(HOME)/.cache/solera
CLUSTER ?= auto
MODEL ?= iris
export SOLERA_CACHE CLUSTER

PYTHON ?= python3
BIN := .venv/bin
TOOL := PYTHONPATH=cluster $(PYTHON) -m solera_cluster
UV_VERSION := $(shell sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements/uv.txt)
UV_HOME := $(SOLERA_CACHE)/tools/uv-$(UV_VERSION)
UV := UV_CACHE_DIR=$(SOLERA_CACHE)/uv $(UV_HOME)/bin/uv
SOURCES := operator trainer model_server core cluster manifests native tests

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | column -ts $$'\t'

# ---- environment ---------------------------------------------------------------------------------

$(UV_HOME)/bin/uv: requirements/uv.txt
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -q; apt-get install -qy python3-venv; }
	@$(PYTHON) -m venv $(UV_HOME)
	@$(UV_HOME)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv/.ready: requirements/dev.txt pyproject.toml | $(UV_HOME)/bin/uv
	@echo "environment: .venv from requirements/dev.txt"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(UV) pip sync -q --require-hashes --python $(BIN)/python requirements/dev.txt
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
	@$(MAKE) -s .venv/.native >/dev/null  # the sync has removed what no list names

# The server's C extension; without a compiler or Python's headers its numpy twin serves, with the same results.
NATIVE := $(wildcard native/*.c native/*.h) native/setup.py native/pyproject.toml

.venv/.native: $(NATIVE) .venv/.ready
	@if command -v cc >/dev/null && $(BIN)/python native/headers.py; then \
	  rm -rf native/build && \
	  $(UV) pip install -q --reinstall --python $(BIN)/python --no-deps --no-build-isolation ./native && \
	  rm -rf native/build native/*.egg-info && touch $@; \
	else \
	  echo "environment: no C compiler (cc) or no Python.h: the server computes with numpy, slower;" \
	    "install gcc, libc6-dev and python3-dev, then make env"; \
	fi

.PHONY: env
env: .venv/.ready .venv/.native ## the Python environment of this checkout (.venv)

WHEELS := dist

.PHONY: wheels
wheels: .venv/.ready ## wheels of solera and of the server's C extension, into dist/ (WHEELS=)
	@mkdir -p $(WHEELS) && rm -rf native/build $(WHEELS)/solera-*.whl $(WHEELS)/solera_native-*.whl
	@for project in . ./native; do \
	  $(UV) build -q --wheel --no-build-isolation --python $(BIN)/python -o $(WHEELS) $$project; \
	done
	@rm -rf native/build native/*.egg-info
	@ls $(WHEELS)/solera-*.whl $(WHEELS)/solera_native-*.whl

.PHONY: requirements
requirements: | $(UV_HOME)/bin/uv ## pin the dependencies anew (after a change in pyproject.toml)
	@for target in dev operator trainer server; do \
	  extra=$$([ $$target = dev ] && echo --all-extras || echo "--extra $$target -c requirements/dev.txt"); \
	  [ $$target != server ] || extra="$$extra --extra otel"; \
	  $(UV) pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    $$extra pyproject.toml -o requirements/$$target.txt; \
	done
	@find requirements -name '*.in' | sort | while read -r names; do \
	  $(UV) pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    "$$names" -o "$${names%.in}.txt"; \
	done

# ---- checks --------------------------------------------------------------------------------------

.PHONY: lint
lint: .venv/.ready ## ruff, mypy, import directions, generated files, leftovers
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m solera_operator.api.crd --check crds
	$(BIN)/python -m solera_operator.api.reference --check docs/reference
	$(BIN)/python -m solera_trainer.catalogue_gen --check
	$(BIN)/python model_server/protobuf_gen.py --check
	$(BIN)/python tests/lint/leftovers.py
	cd native && SOLERA_NATIVE_STRICT=1 ../$(BIN)/python setup.py -q build_ext -f -b ../build/native -t ../build/native

.PHONY: generate
generate: .venv/.ready ## write what is generated: CRDs, reference pages, estimator catalogue, protobuf modules
	$(BIN)/python -m solera_operator.api.crd --write crds
	$(BIN)/python -m solera_operator.api.reference --write docs/reference
	$(BIN)/python -m solera_trainer.catalogue_gen --write
	$(BIN)/python model_server/protobuf_gen.py --write

# ---- tests ---------------------------------------------------------------------------------------

.PHONY: test
test: test-unit test-api test-e2e ## everything, on a real cluster (started if need be)

# The model's page is tested in a real browser; what it may be called is in tests/unit/server/browser.py.
.PHONY: browser
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || [ "$$(id -u)" != 0 ] || \
	  { apt-get update -q && apt-get install -qy --no-install-recommends chromium; } >/dev/null

.PHONY: test-unit
test-unit: env browser ## pure tests and the server's own processes, no cluster
	$(BIN)/python -m pytest tests/unit -n 2 -q

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= http v1 v2 turn model receipt

.PHONY: fuzz
fuzz: .venv/.ready .venv/.native ## the server's parsers under a coverage-guided fuzzer, FUZZ_SECONDS each
	@mkdir -p build/fuzz/found build/fuzz/native && rm -rf build/fuzz/artifact
	@cp .venv/lib/python*/site-packages/solera_native*.so build/fuzz/native/
	@$(BIN)/python tests/fuzz/write_corpus.py build/fuzz/artifact
	@python=$$($(BIN)/python tests/own_environment.py fuzz) && for target in $(FUZZ_TARGETS); do \
	  mkdir -p build/fuzz/new/$$target && \
	  SOLERA_KERNELS=native PYTHONPATH=build/fuzz/native $$python tests/fuzz/run.py $$target build/fuzz/artifact -max_total_time=$(FUZZ_SECONDS) -timeout=20 \
	    -rss_limit_mb=3000 -artifact_prefix=build/fuzz/found/ build/fuzz/new/$$target tests/fuzz/corpus/$$target \
	    > build/fuzz/$$target.log 2>&1 || { tail -40 build/fuzz/$$target.log; exit 1; }; \
	  echo "fuzz $$target: $$(tail -1 build/fuzz/$$target.log)"; \
	done

.PHONY: test-api
test-api: env ## against a real API server, without nodes
	$(TOOL) build control-plane
	$(BIN)/python -m pytest tests/api -n 2 --dist loadfile -q

.PHONY: test-e2e
test-e2e: env deploy ## whole cluster: real pods, real requests
	KUBECONFIG=$$($(TOOL) kubeconfig) $(BIN)/python -m pytest tests/e2e -n 3 --dist worksteal -q

# ---- benchmarks ----------------------------------------------------------------------------------
# BENCH=short: half the time. BENCH=quick: a few minutes, figures for orientation only. CASES=, SERVERS=: some of them, by name.

BENCH ?= full
BENCHMARK := PYTHONPATH=tests/perf:tests $(BIN)/python -m serving_bench

.PHONY: bench-server
bench-server: env ## Solera beside the other model servers (BENCH=quick, CASES=, SERVERS=)
	$(BENCHMARK).bench_server --extent $(BENCH) --cases "$(CASES)" --servers "$(SERVERS)"

.PHONY: bench-grpc
bench-grpc: env ## Solera's gRPC beside KServe's, MLServer's and a bare grpc.aio (BENCH=quick, CASES=, SERVERS=)
	$(BENCHMARK).bench_grpc --extent $(BENCH) --cases "$(CASES)" --servers "$(SERVERS)"

.PHONY: bench-overload
bench-overload: env ## goodput, refusals and recovery at up to ten times the capacity (BENCH=quick)
	$(BENCHMARK).bench_overload --extent $(BENCH)

.PHONY: bench-soak
bench-soak: env ## memory over a million requests (REQUESTS=)
	$(BENCHMARK).soak $(if $(REQUESTS),--requests $(REQUESTS))

.PHONY: bench-load
bench-load: env ## time and memory of loading large forests, beside scikit-learn's own
	$(BENCHMARK).bench_load

.PHONY: bench-profile
bench-profile: env ## where the server's time goes (CASES=iris, CONNECTIONS=64)
	$(BENCHMARK).where_time_goes --case $(or $(CASES),iris) --connections $(or $(CONNECTIONS),64)

.PHONY: bench-page
bench-page: .venv/.ready ## the figures and charts of the last runs into docs/performance.md
	$(BENCHMARK).page

# ---- the cluster ---------------------------------------------------------------------------------

.PHONY: demo
demo: ## from a bare machine to an answered prediction
	@$(TOOL) demo

.PHONY: cluster
cluster: ## a running cluster with its platform (CLUSTER=auto|kind|local|existing)
	@$(TOOL) up
	@$(TOOL) platform install

.PHONY: deploy
deploy: cluster ## Solera on the cluster, ready
	@$(TOOL) deploy
	@$(TOOL) platform wait

.PHONY: redeploy
redeploy: ## put a code change on the running cluster
	@$(TOOL) deploy

.PHONY: down
down: ## stop the local cluster and leave nothing behind
	@$(TOOL) down

.PHONY: status
status: ## what runs; non-zero when the cluster is not up
	@$(TOOL) status

.PHONY: kubeconfig
kubeconfig: ## the kubeconfig's path
	@$(TOOL) kubeconfig

.PHONY: predict
predict: ## a sample row through the stable Service: make predict MODEL=iris
	@$(TOOL) predict $(MODEL)

.PHONY: clean
clean: ## remove the environment and build output of this checkout
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
