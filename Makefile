# Every target does its own set-up in .venv; `make` alone lists the targets.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help experiment test slow benchmark format

help:
	@echo 'make experiment   install, then run_experiments.py digits: from nothing to reports/digits/'
	@echo 'make test         install with the test extra, then format, lint, types, import contracts, fast tests and long ones'
	@echo 'make slow         the tests that take minutes'
	@echo 'make benchmark    this lab beside others, in turn: minutes; writes reports/reference/benchmark.csv'
	@echo 'make format       put every file into the form make test asks for'

# torch and torchvision are installed in one pip call, so that pip chooses a pair that works together.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/installed-test: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch .venv/installed $@

experiment: .venv/installed
	$(BIN)/python run_experiments.py digits

test: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest
	$(BIN)/pytest -m 'long and not slow'

slow: .venv/installed-test
	$(BIN)/pytest -m slow

benchmark: .venv/installed-test
	$(BIN)/pip install --quiet --editable '.[benchmark]'
	$(BIN)/python -m benchmarks

format: .venv/installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
