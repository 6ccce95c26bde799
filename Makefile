# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set up .venv first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := $(wildcard setup.py pyproject.toml constraints.txt puffer_il/*/*.pxi puffer_il/*/*.pyx puffer_il/*/*/*.pyx puffer_il/native/glue.py puffer_il/native/envfile.py csrc/*.h csrc/*/*.h envs/*/*.h envs/*/env.toml)

.PHONY: setup demo test lint fuzz sanitize bench gpu scores quality faults soak pictures clean check-tools

setup: $(STAMP)

$(STAMP): $(SOURCES) | check-tools
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel cython numpy
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@# Without its own requirements (scikit-learn, …): only its tables are read.
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps icu-sepsis
	@touch $(STAMP)

check-tools:
	@command -v $(PYTHON) >/dev/null || { echo "puffer_il needs Python 3.11 or newer: install it, or name one with 'make PYTHON=…'" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "puffer_il needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -V 2>&1); name another with 'make PYTHON=python3.11'" >&2; exit 2; }
	@command -v gcc >/dev/null || { echo "puffer_il needs a C compiler: install gcc (Debian and Ubuntu: apt install gcc)" >&2; exit 2; }

demo: setup
	@$(BIN)/puffer-il train gail cartpole

test: setup
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' -n 2 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH="$(BIN):$$PATH" $(BIN)/cython-lint puffer_il/*/*.pyx puffer_il/*/*/*.pyx puffer_il/*/*.pxi

# Changed inputs over everything that reads a file: make fuzz N=1000000 for a million (hours), SECONDS=45 to end earlier.
N ?= 20000
SECONDS ?= 100000
fuzz: setup
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --count $(N) --seconds $(SECONDS) --jobs 2

# C under AddressSanitizer, UBSan and ThreadSanitizer, and the compiled rooms' tests against such a build: half an hour.
sanitize: setup
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.sanitize --all

# Everything, beside the other packages: about twenty minutes, and 3 GB for theirs on first use.
bench: setup
	@mkdir -p docs build
	$(BIN)/puffer-il bench all --peers --markdown docs/benchmarks.md --json build/benchmarks.json

# What a GPU gains, and whether it learns the same: at most eight minutes; without a GPU a line and exit code 2.
gpu: setup
	@mkdir -p build
	@$(BIN)/python -m puffer_il.bench.gpu --json build/gpu.json --markdown build/gpu.md

# Every algorithm on every environment of the table, over 5 seeds: hours; interrupted, it goes on where it was.
scores: setup
	@mkdir -p docs build
	$(BIN)/puffer-il bench scores --markdown docs/algorithms-table.md --json build/scores.json

# Every learning claim of docs/results.md, over its seeds: minutes, not for every commit. PUFFER_IL_TEST_FUSED=false makes
# torch do everything.
quality: setup
	$(BIN)/python -m pytest -m slow -v -s --override-ini addopts= tests

# Kills, full disks, damaged files, broken environments: everything that can go wrong, done to real runs.
faults: setup
	$(BIN)/python -m tests.faults --markdown docs/reliability.md

# An hour of kills and resumes, then ten million steps in one process.
soak: setup
	$(BIN)/python -m tests.faults.soak --minutes 60 --flat 1e7 --log docs/soak.md

# A picture of every environment, for docs/environments.md, and the three of the README.
pictures: setup
	@mkdir -p docs/pictures
	@for folder in $(patsubst envs/%/env.toml,%,$(wildcard envs/*/env.toml)); do \
		$(BIN)/puffer-il env play $$folder --seed 1 --steps 400 --out docs/pictures/$$folder.gif || exit 1; done
	rm -rf build/acrobot
	$(BIN)/puffer-il train gail acrobot --run-dir build/acrobot
	$(BIN)/puffer-il env play acrobot --random --seed 1 --episodes 1 --steps 80 --out docs/pictures/acrobot-random.gif
	$(BIN)/puffer-il env play --policy build/acrobot --seed 1 --episodes 1 --out docs/pictures/acrobot-gail.gif

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name '*.so' -path './*/*' -delete
