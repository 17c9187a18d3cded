# Two commands do everything: `make demo` runs the main job, `make test` the tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Compiled modules are kept even where the caller says not to: every start is several times faster with them.
export PYTHONDONTWRITEBYTECODE :=
ENV := .venv
BIN := $(ENV)/bin
READY := $(ENV)/.installed
# uv is taken from PATH where it is there, else from the environment itself.
UV := $(shell command -v uv || echo $(BIN)/uv)

# A worker for each core, each with one thread. Every worker needs about 2 GiB.
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

# What the check for plain English covers so far.
PLAIN := README.md CONTRIBUTING.md CHANGELOG.md docs/ audio/ benchmarks/ encoders/ tokenizers/ presets/ examples/ \
	experiments/ ossicle/cli/

.PHONY: demo test test-fast bench lint format clean

demo: $(READY)
	$(BIN)/ossicle run experiments/quickstart.yaml

test: $(READY)
	$(PARALLEL)

test-fast: $(READY)
	$(PARALLEL) -m "not slow" --durations 5 --durations-min 1

# With other implementations beside it: make bench PEERS="--peer FOLDER --peer FOLDER". The record,
# benchmarks/RESULTS.md, is of one machine: other measurements go beside the runs.
bench: $(READY)
	mkdir -p runs
	$(BIN)/ossicle bench $(PEERS) --out runs/bench.md

# mypy reads the checkout through links, because the top-level folders are sub-packages of `ossicle`. The paths in its
# messages begin with .types/ossicle and open the files themselves.
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/plain_english.py $(PLAIN)
	$(BIN)/python .ci/link_types.py
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(ENV) .types build *.egg-info

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(ENV) || $(PYTHON) -m venv --without-pip $(ENV)
	test -x "$(UV)" || $(BIN)/python -m pip install --quiet uv || $(PYTHON) -m pip --python $(BIN)/python install --quiet uv
	$(UV) pip install --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
