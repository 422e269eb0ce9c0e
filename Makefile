# The environment is rebuilt when a requirement changes, and every target that needs it says so.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate $(LOCK_FLAGS)
WORKERS ?= 2

# What the tests play with as a developer would: another Python environment, and packages for Node
# where there is an npm (without one its tests are left out, and say so).
OLD_CLIENT := $(VENV)/openai-1.20
NODE_CLIENT := tests/clients/node
NPM := $(shell command -v npm)
CLIENTS := $(OLD_CLIENT)/.installed $(if $(NPM),$(NODE_CLIENT)/node_modules/.installed)

.PHONY: help demo test check lock bench clean .python

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: $(STAMP) ## Play the story against a simulated Azure and keep serving (ONCE=1: stop after the bill)
	$(BIN)/aoai-gateway demo $(if $(filter 1,$(ONCE)),--once)

test: export REQUIRE_ALL := $(REQUIRE_ALL)
test: $(STAMP) $(CLIENTS) ## Run every test and name what was left out (REQUIRE_ALL=1: then fail; COVERAGE=1: measure)
	$(BIN)/python -m pytest -n $(WORKERS) $(if $(filter 1,$(COVERAGE)),--cov --cov-report=term) $(ARGS)

check: $(STAMP) ## Check style, types, the direction of imports and the requirements
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@if grep -nE '://|^ *-i |--(extra-)?index-url|--find-links' requirements/*.txt; \
		then echo 'a requirements file names an index; `make lock` leaves it out' >&2; exit 1; fi

lock: $(STAMP) ## Pin the requirements by hash again (LOCK_FLAGS=--upgrade: to the newest)
	$(LOCK) --group pyproject.toml:build -o requirements/build.txt
	$(LOCK) pyproject.toml -c requirements/build.txt -o requirements/runtime.txt
	$(LOCK) pyproject.toml --extra demo --group dev -c requirements/runtime.txt -o requirements/dev.txt
	$(LOCK) --group pyproject.toml:openai-1-20 -o requirements/openai-1.20.txt

bench: $(STAMP) ## Measure the gateway side by side with a bare proxy
	$(BIN)/python -m bench $(ARGS)

clean: ## Remove the environment, caches and what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .coverage demo-out $(NODE_CLIENT)/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.python:
	@command -v $(PYTHON) > /dev/null \
		|| { echo '`$(PYTHON)` is missing; on Debian: apt-get install python3 python3-venv' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo '`$(PYTHON)` is older than 3.11; name a newer one: make PYTHON=python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null \
		|| { echo '`$(PYTHON)` has no ensurepip; on Debian: apt-get install python3-venv' >&2; exit 1; }

$(STAMP): requirements/build.txt requirements/dev.txt pyproject.toml | .python
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements/build.txt
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(OLD_CLIENT)/.installed: requirements/openai-1.20.txt | $(STAMP)
	@test -x $(OLD_CLIENT)/bin/python || $(PYTHON) -m venv --without-pip $(OLD_CLIENT)
	$(PIP) --python $(OLD_CLIENT)/bin/python install --require-hashes -r $<
	@touch $@

$(NODE_CLIENT)/node_modules/.installed: $(NODE_CLIENT)/package-lock.json
	$(NPM) ci --prefix $(NODE_CLIENT) --loglevel=error --no-audit --no-fund --ignore-scripts
	@touch $@
