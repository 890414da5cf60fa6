# Everything a person types: make demo, make dev, make test, make docs, make lint, make clean.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export USERGROWTH_HOME ?= $(CURDIR)/.usergrowth
export DAGSTER_HOME ?= $(USERGROWTH_HOME)/dagster
DATASET ?= completejourney
USERS ?= 2000
KILLS ?= 500
SEED ?= 1

.PHONY: help install demo dev test crashtest mutants bench bench-full engines store docs lint format clean wheel image-check

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: .venv/installed ## Install into .venv

demo: .venv/installed ## Run the whole chain on a public data set (DATASET=synthetic USERS=2000 for the simulator)
	$(BIN)/python -m usergrowth_dagster demo --dataset $(DATASET) --users $(USERS)

dev: .venv/installed ## Dagster UI and MLflow UI on the demo's data
	$(BIN)/python -m usergrowth_dagster dev

test: .venv/installed ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

crashtest: .venv/installed ## Kill dispatchers KILLS times and count what the provider got (KILLS=500 SEED=1)
	$(BIN)/python tests/crash/crashtest.py --kills $(KILLS) --seed $(SEED)

mutants: .venv/installed ## Change FILES here and there and print what TESTS do not notice (FILES=… TESTS=… ONLY=…)
	$(BIN)/python tests/mutants.py --files $(FILES) --tests $(TESTS) --only "$(ONLY)"

bench: .venv/installed ## Measure the product beside its rivals; writes docs/benchmarks.md (about ten minutes)
	$(BIN)/python benchmarks/bench.py

bench-full: .venv/installed ## The same at a million users and 30 million events
	$(BIN)/python benchmarks/bench.py --size full

engines: .venv/installed ## Run the synthetic demo by DuckDB and by Spark and compare what they decide (USERS=2000)
	$(BIN)/python benchmarks/engines.py --users $(USERS) --folder build/engines

store: .venv/installed ## Run the synthetic demo on disk and in an S3 server and compare everything (USERS=2000 STORE=s3://…)
	$(BIN)/python benchmarks/object_store.py --users $(USERS) --folder build/store $(if $(STORE),--root $(STORE))

docs: .venv/installed ## Build the documentation into build/site, every link checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: .venv/installed ## Check style, types, layers and SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m sqlfluff lint --disable-progress-bar sql dbt_like_models

format: .venv/installed ## Format the Python
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

image-check: .venv/installed ## Run the build steps of the Docker image in a clean folder (minutes; no Docker needed)
	$(BIN)/python tests/deploy/dockerfile_steps.py

wheel: .venv/installed ## Build the wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

clean: ## Remove everything that was installed or made
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .usergrowth
