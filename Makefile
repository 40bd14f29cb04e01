VENV = .venv
PYTHON = python3
TEST_ARGS =
WORKERS = 2
QUIET = TRANSFORMERS_VERBOSITY=error TQDM_DISABLE=1
BIN = $(VENV)/bin
# As in esd_core/__init__.py; notebooks load torch before that.
export GOMP_SPINCOUNT ?= 10000
STAGES = drawings train_vae ceiling train_clip train_unet train_decoder choose export report ready_made

.DEFAULT_GOAL = help
.PHONY: help app lab lab-pages notebooks test model lint format size clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 12

app: $(VENV)/.app ## install what the app needs, then start it
	$(BIN)/python app.py

lab: $(VENV)/.lab ## open the notebooks in JupyterLab
	PYTHONPATH="$(CURDIR)" $(QUIET) $(BIN)/jupyter lab lab/01_noise_and_scores.ipynb

lab-pages: $(VENV)/.lab ## run the solved notebooks and write them as web pages, to build/lab
	$(BIN)/python -m lab.pages

notebooks: $(VENV)/.lab ## make the notebooks from lab/source
	$(BIN)/python -m lab.build

test: $(VENV)/.dev ## run the tests; TEST_ARGS="-k erase" is passed to pytest
	sh tests/ensure_chromium.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TEST_ARGS)

model: $(VENV)/.dev ## make the embedded model from its drawings (needs npm; resumes; ESD_BUILD=FOLDER)
	$(foreach stage,$(STAGES),$(BIN)/python -m tools.$(stage) && )true

lint: $(VENV)/.dev ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev ## repair what ruff can repair
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

size: ## count lines, files and imports of each part of the code
	@$(PYTHON) -m tools.size

clean: ## remove caches; the environment and build/ stay
	rm -rf .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Stamps: a set of requirements is installed again only when its files change.
$(VENV)/.app: requirements.txt | $(BIN)/pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.lab: requirements.txt requirements-lab.txt | $(BIN)/pip
	$(BIN)/python -m pip install --quiet -r requirements-lab.txt
	touch $@

$(VENV)/.dev: requirements.txt requirements-lab.txt requirements-dev.txt | $(BIN)/pip
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo 'Python 3.11 to 3.13 is needed: make PYTHON=python3.12 ...'; exit 1; }
	$(PYTHON) -m venv $(VENV)
