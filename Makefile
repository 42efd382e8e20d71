# `make demo` and `make test` need only Python 3.11+ and make: both set up .venv through `make install`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test check bench lock clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "raysweep needs Python 3.11 or newer; for example: make install PYTHON=python3.12" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

# The main job on the built-in sample: synthetic cars, a small network from scratch.
demo: install
	rm -rf results/demo
	$(BIN)/python -m platform.tune car_resnet --data sample --name demo --trials 6 --max-epochs 16 \
		--set task.model=resnet10t --set task.pretrained=false --set data.image_size=64 \
		--set task.head=linear --set task.backbone_factor=1 --set task.optimizer=adam

# The quick tests side by side, a process a core; those that drive Ray one after the other.
test: install
	$(BIN)/python -m pytest -n auto -m "not ray"
	$(BIN)/python -m pytest -m ray

# Format, lint, types and the unit tests that need no Ray.
check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto -m "not ray"

bench: install
	for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock:
	uv pip compile --universal --python-version 3.11 --extra dev --no-annotate --no-header pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) results .mypy_cache .ruff_cache .pytest_cache
