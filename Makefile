PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo test check bench bench-long bench-batch soak soak-full clean pictures claims

demo: $(VENV)/.installed  ## renders the first image with the built-in model
	$(BIN)/linfusion generate "purple mountains at dusk, full moon, by a lake" --seed 12 --size 4k --overwrite --output dusk.png

test: $(VENV)/.tested  ## runs the whole test suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.developed  ## style, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed  ## the README's table, measured on this machine
	$(BIN)/python bench/bench.py

bench-long: $(VENV)/.installed  ## the same, with the sizes that take long, what the exact methods cost, loading, and SD-v1.5 with random weights
	$(BIN)/python bench/bench.py --long
	$(BIN)/python bench/methods.py
	$(BIN)/python bench/models.py
	$(BIN)/python bench/loading.py

bench-batch: $(VENV)/.installed  ## what a batch costs beside its images: model loads, journal, start, long lists
	$(BIN)/python bench/batch.py

pictures: $(VENV)/.installed  ## docs/pictures: a contact sheet, four 4K pictures with details; goes on where it stopped
	$(BIN)/python bench/pictures.py

claims: $(VENV)/.installed  ## runs/claims.md: the table of docs/claims.md; hours on a CPU, goes on where it stopped
	for variant in linear unnormalised causal; do \
	  $(BIN)/linfusion distill builtin:landscape --data scenes --variant $$variant --steps 500 --rate 1e-3 --warmup 50 --ema 0.99 --batch-size 16 --output runs/$$variant; \
	done
	$(BIN)/linfusion evaluate --claims --preset bench/claims.toml --variants runs --prompts 72 --output runs/claims > runs/claims.md

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
	$(BIN)/python -m bench.soak --real

soak-full: $(VENV)/.tested  ## the same, ten times as much
	$(BIN)/python -m bench.soak --full

clean:
	rm -rf $(VENV) build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
