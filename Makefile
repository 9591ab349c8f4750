PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
# Where there is no NVIDIA card, torch for CPUs is enough, a download of 0.2 GB. PyPI's brings CUDA: the .venv has 5 GB
# with it. It is what is left if that index does not answer. TORCH_FROM= takes PyPI's in any case.
CPU_TORCH = https://download.pytorch.org/whl/cpu
TORCH_FROM ?= $(if $(wildcard /proc/driver/nvidia/version /dev/nvidiactl /dev/dxg),,$(shell $(PYTHON) -c \
  "import urllib.request as r; r.urlopen('$(CPU_TORCH)/torch/', timeout=9); print('--extra-index-url $(CPU_TORCH)')" \
  2>/dev/null || echo "note: $(CPU_TORCH) does not answer: PyPI has a larger torch" >&2))

.DEFAULT_GOAL := help
.PHONY: reference help demo test test-long test-fast check lint coverage bench bench-long bench-batch bench-ranks \
  bench-roofline bench-peers same-pixels soak soak-full test-labelled gpu gpu-wheels clean gallery claims man docs

help:  ## prints this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## renders the first image with the built-in model
	$(BIN)/linfusion generate "purple mountains at dusk, full moon, by a lake" --seed 12 --size 4k --overwrite \
	  --output dusk.png

test: $(VENV)/.tested  ## runs the test suite, but for what takes minutes: see test-long
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not long"

test-long: $(VENV)/.tested  ## seven processes at one image, and the steps of `make gpu` on a CPU
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long

# PyPI's torch for Linux is the one for CUDA, some 3 GB; it needs no card. `===` takes the release that has no ending:
# with `==`, pip prefers a "+cpu" of an index or a folder of wheels that it is set to.
LABELLED = .venv-labelled
CUDA_TORCH = torch===$(shell sed -n 's/^torch==//p' constraints.txt)
test-labelled: $(LABELLED)/.tested  ## whole passes as a CUDA card would run them, without one; downloads torch for CUDA
	$(LABELLED)/bin/python -c "import torch, sys; torch.backends.cuda.is_built() or sys.exit( \
	  f'torch {torch.__version__} in $(LABELLED) is no build for CUDA: install one there, from PyPI')"
	$(LABELLED)/bin/python -m pytest -n 2 --dist worksteal tests/labelled

$(LABELLED)/.tested: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(LABELLED)
	$(LABELLED)/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt $(CUDA_TORCH)
	$(LABELLED)/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt \
	  --editable ".[test]"
	touch $@

test-fast: $(VENV)/.tested  ## the tests that are not marked slow; less than a minute
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not long"

check: lint  ## style and types, then the fast tests with their coverage (reported, not enforced)
	-$(MAKE) coverage

lint: $(VENV)/.developed  ## style and types alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(VENV)/.developed  ## the fast tests, and the lines of the package that they run
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not long" --cov=linfusion_cli --cov-report=term:skip-covered

bench: $(VENV)/.installed  ## the README's table, measured on this machine
	$(BIN)/python bench/bench.py

bench-long: $(VENV)/.installed  ## adds large sizes, the cost of exact methods, loading, SD-v1.5's shapes
	$(BIN)/python bench/bench.py --long
	$(BIN)/python bench/methods.py
	$(BIN)/python bench/models.py
	$(BIN)/python bench/loading.py

bench-batch: $(VENV)/.installed  ## the overhead of a batch: model loads, journal, start, long lists
	$(BIN)/python bench/batch.py

bench-ranks: $(VENV)/.installed  ## one image by two processes of one thread against one of two: time, memory, bytes
	$(BIN)/python bench/ranks.py $(RANKS_FLAGS)

bench-roofline: $(VENV)/.installed  ## how near each phase comes to this machine's peaks; ROOFLINE="--size 2048x2048"
	$(BIN)/python -m bench.roofline $(ROOFLINE)

bench-peers: $(VENV)/.installed  ## SD-v1.5 on this CPU beside its peers; PEERS="--official ~/LinFusion"
	$(BIN)/python -m bench.peers $(PEERS)

reference: $(VENV)/.installed  ## writes docs/reference.md, docs/families.md and presets/defaults.toml's comments
	$(BIN)/python -m linfusion_cli.cli.reference
	$(BIN)/python tests/covered_kinds.py

man: $(VENV)/.installed  ## writes the man pages into man/, from the commands; the wheel puts them into share/man/man1
	$(BIN)/python -m linfusion_cli.cli.man_pages

same-pixels: $(VENV)/.tested  ## hashes of 16 small images by this tree; AGAINST=before.json fails where one differs
	@$(BIN)/python bench/same_pixels.py out/same-pixels $(if $(AGAINST),--against $(AGAINST))

gallery: $(VENV)/.installed  ## docs/images: a contact sheet, four 4K images with details; resumes where it stopped
	$(BIN)/python bench/gallery.py

NAMES_OF_VARIANTS = from linfusion_cli.distill.variant_names import VARIANT_NAMES; print(*VARIANT_NAMES)
VARIANTS = $(or $(shell $(BIN)/python -c '$(NAMES_OF_VARIANTS)'),$(error the names of the variants could not be read))
claims: $(VENV)/.installed  ## runs/claims.md: the table of docs/claims.md; hours on a CPU, resumes where it stopped
	for variant in $(VARIANTS); do \
	  $(BIN)/linfusion distill builtin:landscape --data scenes --variant $$variant --steps 500 --rate 1e-3 \
	    --warmup 50 --ema 0.99 --batch-size 16 --output runs/$$variant; \
	done
	$(BIN)/linfusion evaluate --claims --preset bench/claims.toml --variants runs --prompts 72 --output runs/claims \
	  > runs/claims.md

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) torch $(TORCH_FROM)
	$(PIP) --editable ".[fast-png]"
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) --editable ".[fast-png,test]"
	touch $@

$(VENV)/.developed: $(VENV)/.tested
	$(PIP) --editable ".[fast-png,dev]"
	touch $@

docs: $(VENV)/.documented  ## builds the site of the documents into build/site; a warning is an error
	$(BIN)/mkdocs build --strict

$(VENV)/.documented: $(VENV)/.installed
	$(PIP) --editable ".[docs]"
	touch $@

soak: $(VENV)/.tested  ## injects every fault and counts: kills, full disks, damaged files, races (about 10 minutes)
	$(BIN)/python -m bench.soak --real
	LINFUSION_FUZZ=340 $(BIN)/python -m pytest -q tests/scenarios/test_odd_files.py -k mutations

soak-full: $(VENV)/.tested  ## the soak with ten times as many faults
	$(BIN)/python -m bench.soak --full

# On a card's own machine there may be no way to install anything: whatever Python is there is used.
GPU_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
gpu:  ## proves and measures everything on a GPU in 10 minutes (docs/gpu.md); GPU="--only parity --device cuda:1"
	$(GPU_PYTHON) -m bench.gpu $(GPU)

gpu-wheels: $(VENV)/.installed  ## wheels/: what a card's machine needs beside torch, to be carried there (60 MB)
	$(BIN)/python -m bench.gpu.wheels wheels

clean:  ## removes the environment and everything that the tools leave
	rm -rf $(VENV) $(LABELLED) build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
