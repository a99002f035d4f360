# `make run`, `make check` and `make test` set up all that they need: a virtual environment in .venv with the pinned packages.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Each worker of the tests would compile both packages and all tests again, and so would every process that they start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run check test lint clean same-python

run: $(VENV)/.installed
	@$(BIN)/nanogpt-tui

# what is fast, for while one works: about a minute on two cores
check: lint
	@$(BIN)/python -m pytest -n 2 -m 'not slow'

test: lint
	@$(BIN)/python -m pytest -n 4 --dist worksteal

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy

clean:
	@rm -rf $(VENV) .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python: | same-python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "nanogpt-tui needs Python 3.11 or newer; $(PYTHON) is not. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# A virtual environment keeps the Python that it was made with.
same-python:
ifeq ($(origin PYTHON),command line)
	@test ! -e $(BIN)/python || test "$$($(BIN)/python --version)" = "$$($(PYTHON) --version)" || { \
		echo "$(VENV) has $$($(BIN)/python --version), which is not that of $(PYTHON): run 'make clean' first" >&2; \
		exit 1; }
endif

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): a minute or two" >&2
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV), with what the tests need: a minute or two" >&2
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed
