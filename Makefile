# Every command that a contributor needs; `make` alone lists them. A virtual environment is made and
# filled at the first call, and again when what it is made from changes.
.DEFAULT_GOAL = help
VENV ?= .venv
export VENV PYTHON

python = $(VENV)/bin/python
setup = scripts/setup scripts/system-packages pyproject.toml requirements/dev.txt

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.demo ## See it: the lab, on this machine (ONCE=1: print the table and end)
	@$(python) -m flask_offload_lab $(if $(filter-out 0 false no,$(ONCE)),--once) $(ARGS)

# Most tests wait for processes, so two share a machine well. More would disturb those that compare times.
test: lint types ## Check it: linters and types first, then all tests (ARGS="-k retry -x": some tests)
	@$(python) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

quick: lint types ## The same without tests that start processes: under two minutes
	@$(python) -m pytest -n 2 -m "not processes" --durations=5 --durations-min=5 $(ARGS)

lint: $(VENV)/.dev ## Style, format and the direction of imports
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) tests/helpers/architecture.py

format: $(VENV)/.dev ## Put every file into the house's form
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .

types: $(VENV)/.dev ## mypy --strict over the package and the tests
	@$(python) -m mypy

coverage: $(VENV)/.dev ## Which lines the tests reach, child processes included
	@$(python) -m coverage run -m pytest $(ARGS)
	@$(python) -m coverage combine --quiet
	@$(python) -m coverage report

bench: $(VENV)/.dev $(VENV)/.bench ## Speed, side by side with the peers, on this machine
	@$(python) -m benchmarks $(ARGS)

torture: $(VENV)/.dev ## kill -9, full disks, poison: the short form, some six minutes
	@$(python) -m torture $(ARGS)

torture-long: $(VENV)/.dev ## The long form: 1,000 kills over 100,000 jobs; takes hours
	@$(python) -m torture --long --record $(ARGS)

docs: $(VENV)/.dev $(VENV)/.docs ## Build the documentation site into docs/_build, warnings as errors
	@PYTHONPATH=tests/helpers $(python) tests/helpers/engine_docs.py
	@$(python) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@$(python) docs/_ext/check_links.py docs/_build/html

dist: $(VENV)/.dev $(VENV)/.docs ## Build the sdist and the wheel into dist/, and check their metadata
	@rm -rf dist
	@$(python) -m build --no-isolation
	@$(python) -m twine check --strict dist/*

compile = $(python) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 \
  --no-annotate --custom-compile-command "make lock"
lock: $(VENV)/.dev ## Raise the pins in requirements/ to what is current
	@$(python) -m pip --disable-pip-version-check install --quiet uv
	@$(compile) --all-extras pyproject.toml requirements/dev.in -o requirements/dev.txt
	@$(compile) -c requirements/dev.txt requirements/bench.in -o requirements/bench.txt
	@$(compile) -c requirements/dev.txt requirements/docs.in -o requirements/docs.txt

clean: ## Remove all that these commands made
	rm -rf $(VENV) dist docs/_build .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests examples -name __pycache__ -prune -exec rm -rf {} +

# A copied checkout must not run the original's code: its environment is made anew.
ifneq ($(shell cat $(VENV)/.home 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.demo $(VENV)/.dev $(VENV)/.bench $(VENV)/.docs
endif

$(VENV)/.demo: $(setup)
	@scripts/setup demo

$(VENV)/.dev: $(setup)
	@scripts/setup dev

$(VENV)/.bench: scripts/setup scripts/system-packages requirements/bench.txt
	@scripts/setup bench

$(VENV)/.docs: scripts/setup requirements/docs.txt
	@scripts/setup docs

.PHONY: help demo test quick lint format types coverage bench torture torture-long docs dist lock clean
