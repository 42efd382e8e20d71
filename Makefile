# `make demo` and `make test` need only Python 3.11+ and make: both set up .venv through `make install`.
PYTHON ?= python3
# The build of PyTorch on Linux: auto (CPU where there is no NVIDIA driver and an index of pip's serves it), cpu or cuda.
TORCH ?= auto
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test check lint unit docs bench lock clean

install: $(VENV)/.installed

# A build that is asked for is looked at each time, `auto` only when what is to be installed changes.
ifneq ($(TORCH),auto)
.PHONY: $(VENV)/.installed
endif
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "raysweep needs Python 3.11 or newer; for example: make install PYTHON=python3.12" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python tools/install_requirements.py $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

# The main job on the built-in sample: synthetic cars, a small network from scratch.
demo: install
	rm -rf results/demo
	$(BIN)/python -m platform.tune car_resnet --data sample --name demo --trials 5 --max-epochs 12 \
		--set task.model=resnet10t --set task.pretrained=false --set data.image_size=64 \
		--set task.head=linear --set task.backbone_factor=1 --set task.optimizer=adam

# All tests: the quick ones, then those that drive Ray, one after the other. The coverage is that of the test processes;
# what only Ray's workers and commands in processes of their own run is not in it.
test: unit
	$(BIN)/python -m pytest -m ray --cov=raysweep --cov-append --cov-report=term:skip-covered

# Format, lint, types and the unit tests that need no Ray.
check: lint unit

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The tests that need no Ray, side by side, a process a core.
unit: install
	$(BIN)/python -m pytest -n auto -m "not ray" --cov=raysweep --cov-report=

# The documentation as a site, site/index.html: the reference from the code, links checked, no network.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# record_curves.py measures nothing: it made the curves that search_efficiency.py searches on, with or without LCBench's.
# predict.py and serve.py want a run and a folder; streaming.py, the last, wants user namespaces.
bench: install
	for script in $(filter-out %/record_curves.py %/search_efficiency.py %/predict.py %/serve.py %/fine_tuning.py %/streaming.py,$(wildcard benchmarks/[a-z]*.py)); do \
		echo "== $$script"; $(BIN)/python $$script || exit 1; done
	$(BIN)/python benchmarks/search_efficiency.py $(LCBENCH)
	$(BIN)/python benchmarks/streaming.py

lock:
	uv pip compile --universal --python-version 3.11 --extra aws --extra dev --no-annotate --no-header pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) results site .mypy_cache .ruff_cache .pytest_cache
