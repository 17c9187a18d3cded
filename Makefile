# The two main targets: `make demo` runs the quickstart experiment, `make test` the tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Python must write compiled modules even if the caller's environment forbids it, because they make every start several
# times faster.
export PYTHONDONTWRITEBYTECODE :=
ENV := .venv
BIN := $(ENV)/bin
READY := $(ENV)/.installed
# Use uv from PATH if it is there, otherwise the one in the virtual environment.
UV := $(shell command -v uv || echo $(BIN)/uv)

# One worker per core, each with one thread. A worker needs about 2 GiB of memory.
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

# The files and folders that the check for plain English covers so far.
PLAIN := README.md CONTRIBUTING.md CHANGELOG.md pyproject.toml docs/ presets/ examples/ experiments/ tests/ .ci/ \
	core/ audio/ encoders/ tokenizers/ checkpoints/ training/ tasks/ plugins/ benchmarks/ ossicle/

.PHONY: demo test test-fast bench lint format clean

demo: $(READY)
	$(BIN)/ossicle run experiments/quickstart.yaml

test: $(READY)
	$(PARALLEL)

test-fast: $(READY)
	$(PARALLEL) -m "not slow" --durations 5 --durations-min 1

# To compare with other implementations: make bench PEERS="--peer FOLDER --peer FOLDER". The results go to runs/, because
# the recorded ones in benchmarks/RESULTS.md are from one machine.
bench: $(READY)
	mkdir -p runs
	$(BIN)/ossicle bench $(PEERS) --out runs/bench.md

# mypy reads the checkout through symbolic links, because the top-level folders are sub-packages of `ossicle`. The paths
# in its messages begin with .types/ossicle and lead to the real files.
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
