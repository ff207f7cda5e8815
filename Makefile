# The two commands: `make demo` and `make test`. Both set up everything they need (scripts/setup).
PYTHON = .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup demo test sweep fuzz damage mutants check accuracy wheel clean
N ?= 2000

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:  ## virtual environment with locked versions, arm-none-eabi-gcc, qemu-system-arm
	@scripts/setup

demo: setup  ## train a small CNN on digits, compile it, run it on an emulated Cortex-M4
	@$(PYTHON) -m tinygen demo --out build/demo

test: setup  ## the whole test suite (at most 15 minutes on 2 cores)
	@OMP_NUM_THREADS=1 TINYGEN_REQUIRE_TOOLS=1 $(PYTHON) -m pytest -n 2 -m "not slow"

sweep: setup  ## the long sweeps too; run before an issue is closed
	@OMP_NUM_THREADS=1 TINYGEN_REQUIRE_TOOLS=1 $(PYTHON) -m pytest -n 2 -m slow

fuzz: setup  ## N random graphs, resumable (make fuzz N=10000)
	@$(PYTHON) -m tests.fuzz --count $(N) --resume build/fuzz

damage: setup  ## N damaged input files (make damage N=1000)
	@$(PYTHON) -m tests.damage --count $(N)

mutants: setup  ## planted defects, each caught by a named test; writes the table into docs/testing.md
	@$(PYTHON) -m tests.mutants

check: setup  ## ruff, mypy --strict, pytest
	@scripts/check

accuracy: setup  ## int8 against float on ../shared/data; writes docs/accuracy.md
	@$(PYTHON) -m benchmarks.accuracy

wheel: setup  ## build the wheel into dist/
	@$(PYTHON) -m build --wheel --outdir dist .

clean:  ## remove what was built (the virtual environment stays)
	rm -rf build dist
