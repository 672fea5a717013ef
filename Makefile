# Two commands do all set-up on a fresh machine: `make run` and `make test`.
# `make` alone shows this help.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8642
FOR ?=
STATIONS ?= few
RUN_DIR ?= .run
# More tests at once than cores: many wait for a process (tests/conftest.py deals them out). A file's tests stay together.
AT_ONCE := -n 3 --dist loadfile --no-loadscope-reorder
# All collect the same names: some are made of sets, whose order hangs on this seed.
export PYTHONHASHSEED := 0
# Whatever a shell says: hundreds of processes are started, and none need compile what another has.
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip install --disable-pip-version-check --require-hashes --no-input
# One line a package while pip works, so that nobody looks at a silent screen.
SHOW := sed -u -n -E 's/^(Collecting|Building wheel for|Installing collected) ?([^ ]*).*/  \1 \2/p'

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(VENV)/.run-ready ## Run one school in miniature; PORT=8642 moves the page, FOR=30 stops by itself, STATIONS=all adds three
	@exec $(BIN)/python -m hil.run --port $(PORT) --folder $(RUN_DIR) --stations $(STATIONS) $(if $(FOR),--for $(FOR))

test: $(VENV)/.test-ready ## All checks and all tests (installs Debian packages when root)
	@$(MAKE) --no-print-directory check
	@$(BIN)/pytest $(AT_ONCE) $(ARGS)

check: $(VENV)/.test-ready ## Format, lint, strict types, import contracts
	@echo "format";    $(BIN)/ruff format --check --quiet .
	@echo "lint";      $(BIN)/ruff check --quiet .
	@echo "types";     $(BIN)/mypy --no-error-summary
	@echo "contracts"; PYTHONPATH=. $(BIN)/lint-imports --no-cache >.lint-imports.log \
		|| { cat .lint-imports.log; exit 1; }; rm -f .lint-imports.log

bench: $(VENV)/.test-ready ## Figures beside their limits, as a table and in bench.json
	@$(BIN)/python -m hil.bench

nightly: $(VENV)/.test-ready ## The longer runs: more seeds, more inputs
	@NIGHTLY=1 $(BIN)/pytest $(AT_ONCE) $(ARGS)

format: $(VENV)/.test-ready ## Put the code into the one format
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

screenshot: $(VENV)/.test-ready ## Make the README's pictures from a running miniature
	@$(BIN)/python -m hil.screenshot

diagrams: $(VENV)/.test-ready ## Draw the documents' diagrams and tables from the code's data
	@$(BIN)/python -m hil.diagrams

release: $(VENV)/.run-ready ## Build a release for machines like this one; ALONE=1: our wheel alone, WHEELS=folder: no network, LOCK='files'
	@$(BIN)/python -m hil.release --out dist $(if $(ALONE),--alone) $(if $(WHEELS),--wheels $(WHEELS)) $(foreach lock,$(LOCK),--lock $(lock))

schemas: $(VENV)/.test-ready ## Write the JSON Schemas of the wire from the code
	@$(BIN)/python -m hil.schemas
	@$(BIN)/python -m hil.vectors

lock: ## Make the lock files anew (needs the uv tool: python3 -m pip install uv)
	@for set in run test pi; do uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --no-header --no-emit-index-url --no-annotate $(UPGRADE) \
		requirements/$$set.in -o requirements/$$set.txt; done

clean: ## Remove what was made here: environment, run folder, caches
	@rm -rf $(VENV) .run .mypy_cache .ruff_cache .hypothesis *.egg-info bench.json

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON); install it: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Making the environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "make: this Python has no venv; install it: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.run-ready: requirements/run.txt setup.cfg | $(VENV)/.python
	@echo "Installing what 'make run' needs (a minute or two, once)"
	@$(PIP) -r requirements/run.txt 2>&1 | tee $(VENV)/install.log | $(SHOW) \
		|| { tail -20 $(VENV)/install.log >&2; exit 1; }
	@$(INSTALL_SELF)
	@touch $@

$(VENV)/.test-ready: requirements/test.txt setup.cfg tests/debian.sh | $(VENV)/.python
	@tests/debian.sh
	@echo "Installing what 'make test' needs (a minute or two, once)"
	@$(PIP) -r requirements/test.txt 2>&1 | tee $(VENV)/install.log | $(SHOW) \
		|| { tail -20 $(VENV)/install.log >&2; exit 1; }
	@$(INSTALL_SELF)
	@touch $@ $(VENV)/.run-ready

define INSTALL_SELF
$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation \
	--config-settings editable_mode=compat --editable . >>$(VENV)/install.log 2>&1 \
	|| { tail -20 $(VENV)/install.log >&2; exit 1; }
endef

.PHONY: help run test check bench nightly format screenshot diagrams release schemas lock clean
