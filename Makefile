# `make help` lists the targets. Every target that needs the environment makes it first.
PYTHON  ?= python3
PROJECT ?= plvl
SEED    ?= 0
DATA    ?= shapes
JOBS    ?= 2
TESTS   ?= tests
VENV    := .venv/bin

.PHONY: help env quickstart demo test test-slow gpu-check docs docs-serve lint types coverage bench wheel clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

env:  ## build or update .venv (minutes the first time, then a second)
	@command -v $(PYTHON) >/dev/null || { echo "[env] error: $(PYTHON) not found: install Python 3.10 to 3.12 or set PYTHON=" >&2; exit 1; }
	@$(PYTHON) tools/misc/setup_env.py

quickstart: env  ## generate scenes, train, test and draw images (PROJECT=plvl SEED=0 DATA=photos or generalized)
	@$(if $(filter photos,$(DATA)),$(VENV)/python -m pip install -q --no-deps -r requirements/photos.txt)
	@$(VENV)/python tools/quickstart.py $(PROJECT) --seed $(SEED) --data $(DATA)

demo: env  ## serve the web demo of the quick starts' models (OPTIONS='--port 8080 --photos DIR')
	@$(VENV)/python demo/web.py $(OPTIONS)

test: env  ## the tests that need no GPU and no download (JOBS=2 files at a time)
	@$(VENV)/python -m pytest -q -m "not slow" -n $(JOBS) --dist loadfile --durations=10 tests

test-slow: env  ## the long tests only
	@$(VENV)/python -m pytest -q -m slow --durations=10 tests

gpu-check: env  ## check the projects on this machine's GPUs (ONLY="parity speed/plvl", PRETENDED=1)
	@$(if $(PRETENDED),PRETENDED_GPUS=2 $(VENV)/python tests/pretended_gpu/run.py,$(VENV)/python) \
		tools/misc/gpu_check.py $(if $(ONLY),--only $(ONLY)) $(OPTIONS)

docs: env  ## build the site into site/; every warning is an error
	@# without --quiet, which would hide the warnings from --strict as well
	@PYTHONWARNINGS=ignore NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build --strict
	@echo "[docs] site/index.html"

docs-serve: env  ## the site on http://127.0.0.1:8000, built again whenever a page changes
	@PYTHONWARNINGS=ignore NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs serve

lint: env types  ## ruff: rules, docstrings and format; mypy
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .

types: env  ## mypy on projects/
	@$(VENV)/mypy

coverage: env  ## lines that the tests run, by package (TESTS=tests/common: only those)
	@rm -rf work_dirs/coverage
	@$(VENV)/coverage run -m pytest -q -m "not slow" $(TESTS)
	@$(VENV)/coverage combine -q
	@$(VENV)/coverage xml -q
	@$(VENV)/coverage html -q
	@for folder in projects/*/ tools/; do \
		printf '%-32s%4s %%\n' $$folder "$$($(VENV)/coverage report --format=total --include="$$folder*")"; \
	done
	@echo "[coverage] work_dirs/coverage/html/index.html, coverage.xml"

bench: env  ## measure every part beside its baseline (BENCH="--only plvl", BENCH=--quick)
	@$(VENV)/python benchmarks/bench.py $(BENCH)

wheel: env  ## build the wheel into dist/
	@rm -rf build dist
	@$(VENV)/python -m pip wheel -q --no-build-isolation --no-deps -w dist .
	@ls dist

clean:  ## remove what was built, except .venv and work_dirs
	@rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
