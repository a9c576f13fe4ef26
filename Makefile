# Needs Python 3.11 to 3.13, git and make; every target sets up .venv by itself.

PYTHON ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
COLAB ?=
PORT ?= 8000

VENV := .venv
PY := $(VENV)/bin/python

# One compilation cache for tests, notebooks and book. JAX keeps only what took a second
# to compile; from 0.1 s on, a second run of the tests needs a quarter less CPU time.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/_build/jax-cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.1

# The numbers of the book are those of the CPU; JAX_PLATFORMS=cuda overrides.
CPU := JAX_PLATFORMS=$${JAX_PLATFORMS:-cpu}

.DEFAULT_GOAL := help
.PHONY: help setup book test test-package test-notebooks colab check-pages lint lab notebooks serve weights bench requirements clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/ready ## Make .venv with everything pinned and the package editable

# The stamps are written last, so an interrupted set-up starts again from nothing.
$(VENV)/requirements: requirements.txt
	@rm -rf $(VENV)
	@for p in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  found=$$("$$p" -c 'import sys, venv; (3, 11) <= sys.version_info[:2] <= (3, 13) and print(sys.executable)' 2>/dev/null) \
	    && [ -n "$$found" ] && break; found=; \
	done; \
	[ -n "$$found" ] || { echo 'No Python 3.11, 3.12 or 3.13 found: install one, or name it with make PYTHON=/path/to/python'; exit 1; }; \
	echo "Setting up $(VENV) with $$found (minutes the first time)"; \
	if command -v uv >/dev/null; then \
	  uv venv --quiet --python "$$found" $(VENV) && uv pip install --quiet --python $(PY) -r requirements.txt; \
	else \
	  "$$found" -m venv $(VENV) && $(PY) -m pip install --quiet -r requirements.txt; \
	fi
	@touch $@

$(VENV)/ready: $(VENV)/requirements pyproject.toml
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(PY) --no-deps -e .; \
	else $(PY) -m ensurepip --default-pip >/dev/null && $(PY) -m pip install --quiet --no-deps -e .; fi
	@touch $@

book: setup ## Execute every chapter and write _build/html/index.html
	$(CPU) $(VENV)/bin/jupyter-book build . -n -W --keep-going

test: test-package test-notebooks ## Run all tests: the package, then every cell of every notebook

# Two processes share the modules; what measures a time then has the machine for itself.
test-package: setup
	$(CPU) $(PY) -m pytest -n 2 --dist loadfile --durations=25 -m "not timing" --ignore=tests/test_pages.py $(PYTEST_ARGS)
	$(CPU) $(PY) -m pytest -m timing --ignore=tests/test_pages.py $(PYTEST_ARGS)

test-notebooks: setup
	$(CPU) $(PY) -m pytest -o addopts= -o filterwarnings= --nbval-lax --nbval-current-env \
	  --nbval-sanitize-with tests/nbval_sanitize.cfg --nbval-cell-timeout 120 -n 2 --dist loadfile book $(PYTEST_ARGS)

colab: setup ## Run the notebooks alone on Colab's versions (COLAB=NAME for one)
	$(CPU) $(PY) -m tools.colab $(COLAB)

check-pages: setup ## Look at the built pages in Chromium (after make book)
	$(PY) -m pytest tests/test_pages.py $(PYTEST_ARGS)

lint: setup ## Check style, types, claim boxes and that the notebooks are in step
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/pyright
	$(PY) -m tools.claims_lint
	$(PY) -m tools.notebooks --check

lab: setup ## Open the chapters in JupyterLab
	$(VENV)/bin/jupyter lab book

notebooks: setup ## Write book/NAME.ipynb beside each chapter that has code
	$(CPU) $(PY) -m tools.notebooks

serve: setup ## Serve the built book on http://localhost:8000
	$(PY) -m http.server --directory _build/html $(PORT)

weights: setup ## Train what the explorers carry, record it, and take their pictures
	$(CPU) $(PY) -m tools.make_weights && $(PY) -m tools.make_classifier && $(PY) -m tools.make_loss_scale && $(PY) -m tools.make_schedules && $(PY) -m tools.make_blur && $(PY) -m tools.make_codebook && $(PY) -m tools.make_collapse && $(PY) -m tools.make_condition && $(PY) -m tools.make_holes && $(PY) -m tools.make_interpolate && $(PY) -m tools.make_traverse && $(PY) -m tools.make_stills

bench: setup ## Measure speed against peers and the machine's own limit
	$(PY) -m benchmarks.speed $(BENCH_ARGS)

requirements: ## Pin requirements.txt anew (needs uv)
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --extra book --extra test --extra tfds pyproject.toml -o requirements.txt

clean: ## Remove what was built; .venv stays
	rm -rf _build .pytest_cache .ruff_cache
