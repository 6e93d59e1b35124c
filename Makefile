# Two commands for a bare machine:
#   make quickstart   environment, install, synthetic people, train, test, picture
#   make test         environment, install, all tests
# Without a GPU a smaller torch will do: make test PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'

PYTHON ?= python3
PIP_ARGS ?=
BIN := $(CURDIR)/.venv/bin
RUN := $(or $(MSPN_HOME),$(CURDIR))/model_logs/quickstart

.PHONY: install test test-lowest quickstart gpu

install: .venv/installed

.venv/installed: setup.py requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --editable '.[dev]'
	touch $@

# A process a core, the long files first (tests/conftest.py); `python -m pytest` alone takes one process.
PYTEST := -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: install
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

# The fast tests with the lowest versions that requirements.txt allows: 3 GB to fetch, since PyPI has no CPU-only torch
# of that age. All have wheels for Python 3.10 to 3.12.
test-lowest: .venv-lowest/installed
	OMP_NUM_THREADS=1 .venv-lowest/bin/python $(PYTEST) -m 'not slow'

.venv-lowest/installed: setup.py requirements.txt
	$(PYTHON) -m venv .venv-lowest
	echo '*' > .venv-lowest/.gitignore
	sed 's/>=/==/' requirements.txt > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet $(PIP_ARGS) --constraint .venv-lowest/lowest.txt --editable . pytest==8.0 pytest-timeout pytest-xdist hypothesis
	touch $@

# All measurements of a GPU, the most important first: make gpu ROOT=DATA MINUTES=8
ROOT ?= dataset/COCO
MINUTES ?= 8
gpu: install
	$(BIN)/python -m lib.tools.benchmark gpu --root $(ROOT) --minutes $(MINUTES) --json gpu.json

# Can be repeated: synthetic people are kept, and training goes on from its last checkpoint.
quickstart: install
	$(BIN)/python -m lib.tools.prepare toy
	cd exps/mspn.2xstg.toy && $(BIN)/python -m torch.distributed.launch --nproc_per_node=2 train.py \
		$$(test ! -e $(RUN)/iter-last.pth || echo '-c last') --set OUTPUT_DIR=$(RUN)
	cd exps/mspn.2xstg.toy && $(BIN)/python test.py -i last --pictures 8 --set OUTPUT_DIR=$(RUN)
