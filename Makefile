# `make demo` and `make test` set up everything they need on a fresh machine.
PY := .venv/bin/python

.PHONY: help demo demo-genome test check bench setup clean

help:
	@echo "make demo    set up, generate a small TopEFT-like dataset and analyse it"
	@echo "make demo-genome   the 1000-genome workflow, and figures of what cutting its stages is worth"
	@echo "make test    set up and run the tests"
	@echo "make check   lint, formatting, types, spelling"
	@echo "make bench   the benchmarks, quick; one JSON object each"

setup:
	@scripts/setup dev

demo: setup
	@$(PY) -m examples.topeft

demo-genome: setup
	@$(PY) -m examples.genome

test: setup
	@scripts/setup-tests
	@$(PY) -m pytest -q

check: setup
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) -m codespell_lib

bench: setup
	@for name in local overhead monitor; do $(PY) -m benchmarks.$$name --quick || exit 1; done

clean:
	rm -rf .venv demo-output shaper-runs .mypy_cache .pytest_cache .ruff_cache .hypothesis
