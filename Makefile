# The two commands of a newcomer are `make demo` and `make test`; each installs what it needs into .venv first.
# `make wheel` builds the wheels into dist/ from a copy without symbolic links, and tries them in an empty environment.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
PYTEST := $(BIN)/python -m pytest

# torch without gigabytes of CUDA, where this index of the torch project is reached; else the wheels at hand.
TORCH_CPU ?= https://download.pytorch.org/whl/cpu

# One thread a process: on few cores a second one costs more than it gives when several processes run.
export OMP_NUM_THREADS ?= 1

.PHONY: install wheel demo test notebooks benches test-slow gate mutants lint types check docs links clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'infield needs Python 3.11 or newer, found ' + sys.version.split()[0] + '; say make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --retries 0 --timeout 10 --index-url $(TORCH_CPU) torch torchvision 2>$(VENV)/torch.log || $(PIP) torch torchvision
	$(PIP) -e ".[test,compare]"
	$(BIN)/python -m infield.core.torchvision_remedy
	touch $@

wheel:
	$(PYTHON) tests/wheel.py dist $(WHEEL)

demo: install
	$(BIN)/infield demo --output demo

test: install
	$(PYTEST) -m "not slow and not notebook" -n logical --maxprocesses 8 --dist worksteal

# The notebooks in their quick mode; the executed copies, in build/notebooks, are the gallery of the documentation.
notebooks: install
	$(PYTEST) -m notebook -n logical --maxprocesses 8 --dist worksteal

# Do benches still run? The quick modes of two, about a minute; `infield bench all --quick` runs every one.
BENCHES ?= trust spectrum
benches: install
	$(BIN)/infield bench all --quick --only $(BENCHES)

test-slow: install
	$(PYTEST) -m slow

# Are the outputs of all commands what they were? Every byte on the machine that recorded them, else GATE=--rounding.
gate: install
	$(BIN)/python tests/gate compare tests/gate/reference.json.gz $(GATE)

# Random mutants of a room and which of them no test notices, e.g. `make mutants ROOM=posterior SEED=1`.
# MORE="--keep FILE" lets an ended run go on; MORE=--reach runs for each only the tests that reach its place.
ROOM ?= posterior
SEED ?= 0
N ?= 40
mutants: install
	$(BIN)/python tests/mutants $(ROOM) --seed $(SEED) --count $(N) $(MORE)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

check: lint types test notebooks

# The documentation, in build/docs: every warning is an error, and nothing is fetched. Figures of the gallery are those of
# the last `make notebooks`.
docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

# External links of the documentation, where there is a network.
links: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -q -b linkcheck docs build/links

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build dist demo docs/generated src/*.egg-info
