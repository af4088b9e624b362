# `make demo` and `make test` are all a newcomer needs. Both prepare .venv first; nothing is installed outside of it.

PYTHON ?= python3
TORCH ?= torch==2.13.0
DEMO ?= digits
CLAIMS ?=
JOBS ?= 2
BIN := .venv/bin

.PHONY: demo test test-all test-timing test-wheel release install lint format types index pictures readme claims examples bench bench-arena bench-classifiers bench-contrastive bench-losses bench-pairs bench-ranking clean gpu-check test-matrix

demo: .venv/installed
	$(BIN)/lossary compare $(DEMO)

# What a change has to pass.
test: install
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

# What a release has to pass: each unit by itself where `make test` takes one of each mechanism.
test-all: install
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal -m "not timing"

# Tests that measure time want the machine to themselves.
test-timing: install
	$(BIN)/python -m pytest -m timing tests

# On a machine with a GPU: eight minutes, one JSON file.
gpu-check: install
	$(BIN)/python tools/gpu_check.py

# The oldest and the newest supported versions, in environments of their own.
test-matrix: install
	$(BIN)/python tools/matrix.py

# The wheel, installed into empty environments and used.
test-wheel: install
	$(BIN)/python tools/wheel.py

release: install
	$(BIN)/python tools/release.py $(VERSION)

install: .venv/installed-dev

# torch comes first and alone, so that nothing else can choose another build of it.
.venv/installed: constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "Lossary needs Python 3.11 or newer, and '$(PYTHON)' was not found; name one with: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lossary needs Python 3.11 or newer, and '$(PYTHON)' is older; name one with: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Lossary needs Python's venv module, and '$(PYTHON)' lacks it (on Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[compare]'
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Three packages to measure against ask for torchvision, which has to be built for the very torch that is installed; their losses
# do without it.
.venv/installed-peers: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[peers]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps open_clip_torch pytorch-metric-learning timm segmentation-models-pytorch
	@touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install
	$(BIN)/mypy

index: install
	$(BIN)/python tools/index.py

# The pictures of docs/explanation, from the imports.
pictures: install
	$(BIN)/python tools/structure.py

readme: install
	$(BIN)/python tools/readme.py

examples: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[examples]'
	$(BIN)/python tools/examples.py

claims: install
	$(BIN)/python tools/claims.py $(CLAIMS)

bench: bench-arena bench-losses bench-classifiers bench-contrastive bench-pairs bench-ranking

bench-arena: install
	$(BIN)/python benchmarks/arena.py default --save docs/benchmarks.md
	$(BIN)/python benchmarks/arena.py grid --save docs/benchmarks.md
	$(BIN)/python benchmarks/arena.py memory --save docs/benchmarks.md

bench-losses: .venv/installed-peers
	$(BIN)/python benchmarks/losses.py --save docs/benchmarks.md

bench-classifiers: .venv/installed-peers
	$(BIN)/python benchmarks/classifiers.py --save docs/benchmarks.md

bench-contrastive: .venv/installed-peers
	$(BIN)/python benchmarks/contrastive.py --save docs/benchmarks.md

bench-pairs: .venv/installed-peers
	$(BIN)/python benchmarks/pairs.py --save docs/benchmarks.md

.venv/allrank: install  # in a place of its own, as it brings a package of the name tests
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ allrank

bench-ranking: .venv/allrank
	ALLRANK=.venv/allrank $(BIN)/python benchmarks/ranking.py --save docs/benchmarks.md

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
