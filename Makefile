# `make help` lists what can be made. Everything happens in .venv; no root is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST_ARGS ?=

# Let malloc keep what a training step frees: 1.5 times faster and more on a CPU (docs/performance.md).
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 17179869184

.DEFAULT_GOAL := help
.PHONY: help install demo web experiment check-data test test-slow test-versions soak lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv and install the pinned set (about 5 GB)

$(INSTALLED): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "error: needs Python 3.10 or newer, found " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV), once: about 5 GB, a minute or more ..."
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev,torchaudio]'
	@touch $@

demo: $(INSTALLED) ## train, test and use a separator on a real song (two minutes on two cores)
	@$(BIN)/python scripts/demo.py

web: $(INSTALLED) ## split songs in the browser, at http://localhost:8501/: make web [MODELS=folder]
	@$(BIN)/streamlit run scripts/webapp.py -- $(if $(MODELS),--models "$(MODELS)")

experiment: $(INSTALLED) ## train three small networks on synthetic songs and score them (20 minutes)
	@$(BIN)/python scripts/experiment.py $(ARGS)

check-data: $(INSTALLED) ## report every fault of a data set: make check-data ROOT=folder
	@$(BIN)/python -m data.check "$(ROOT)"

test: $(INSTALLED) ## run the tests, but for the slow ones
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: $(INSTALLED) ## run the slow ones: browsers, several processes, whole runs, kills
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-versions: ## run it on the lowest and on the highest versions of all packages (12 GB)
	@$(PYTHON) -m venv .venv-versions && .venv-versions/bin/python -m pip install -q packaging
	.venv-versions/bin/python scripts/test_versions.py floor $(PYTEST_ARGS)
	.venv-versions/bin/python scripts/test_versions.py ceiling $(PYTEST_ARGS)

soak: $(INSTALLED) ## train under kills, full disks and damaged files: make soak [MINUTES=10]
	@$(BIN)/python scripts/soak.py --minutes $(or $(MINUTES),10) $(ARGS)

lint: $(INSTALLED) ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED) ## format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv, the demo and caches
	rm -rf $(VENV) .venv-* demo experiment .mypy_cache .ruff_cache .pytest_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
