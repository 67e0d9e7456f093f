# Everything runs in .venv, which each target makes by itself; it needs Python 3.11 or newer with venv and pip.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

# Real data, where the machine has it; everything also runs without.
ifneq ($(wildcard ../shared/data),)
export MEKIKI_DATA ?= $(abspath ../shared/data)
endif

.PHONY: help demo test test-all lint format bench docs clean
help:
	@echo "make demo      train on MNIST (or digits) and on generated surfaces, and write reports: under 3 minutes"
	@echo "make test      lint, types, import contracts, doctests and tests: under 8 minutes"
	@echo "make test-all  the same with the slow tests"
	@echo "make lint      ruff, mypy and import-linter only"
	@echo "make docs      the documentation site, into site/"
	@echo "make bench     measure against rivals and the machine itself, about half an hour; nothing else should run meanwhile"

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mekiki needs Python 3.11 or newer; this is $$($(PYTHON) --version): make PYTHON=python3.11 …"; exit 2; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/core: .venv/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

.venv/test: .venv/python pyproject.toml constraints.txt
	$(PIP) -e '.[test]'
	@touch .venv/core $@

demo: .venv/core
	$(BIN)/mekiki demo

test: lint
	$(BIN)/python -m pytest

test-all: lint
	$(BIN)/python -m pytest -m "slow or not slow"

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/test
	$(BIN)/python -m benchmarks

docs: .venv/test
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf .venv dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
