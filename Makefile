PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo test check bench bench-long soak soak-full clean

demo: $(VENV)/.installed  ## renders the first picture with the built-in model
	$(BIN)/linfusion generate "purple mountains at dusk, full moon, by a lake" --seed 12 --size 4k --overwrite --output dusk.png

test: $(VENV)/.tested  ## runs the whole test suite
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.developed  ## style, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed  ## the README's table, measured on this machine
	$(BIN)/python bench/bench.py

bench-long: $(VENV)/.installed  ## the same, with the sizes that take long
	$(BIN)/python bench/bench.py --long

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) --editable ".[fast-png]"
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) --editable ".[fast-png,test]"
	touch $@

$(VENV)/.developed: $(VENV)/.tested
	$(PIP) --editable ".[fast-png,dev]"
	touch $@

soak: $(VENV)/.tested  ## kills, full disks, damaged files, races: every fault injected and counted (about 10 minutes)
	$(BIN)/python bench/soak.py --real

soak-full: $(VENV)/.tested  ## the same, ten times as much
	$(BIN)/python bench/soak.py --full

clean:
	rm -rf $(VENV) build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
