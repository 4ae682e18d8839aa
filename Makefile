# Every target does its own set-up in .venv and is quick the second time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .venv-peers/.ready

.DEFAULT_GOAL := help
.PHONY: help demo run test test-transformers chaos kills prove fuzz check docs format bench clean

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 28

# A venv whose libraries are those that constraints.txt pins.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## an answer that survives kill -9, on the real model (a minute)
	$(BIN)/noyau demo

run: $(READY)  ## start noyau in this terminal until Ctrl-C
	$(BIN)/noyau up

test: $(READY)  ## all tests, with real processes and the real model
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

# Which build of torch is right depends on the machine. The plain one brings the libraries of a GPU;
# for a CPU alone: TORCH="torch --index-url …", with the address that torch's own guide names.
TORCH ?= torch
test-transformers: $(READY)  ## the engine on torch and transformers, on the CPU (may install several GB)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,gpu]'
	$(BIN)/python -m pytest tests/contract/test_engine_backends.py tests/integration/test_transformers_torch.py \
		-k transformers $(ARGS)

chaos: $(READY)  ## five minutes of random kills under four talking clients
	CHAOS_S=300 $(BIN)/python -m pytest -s tests/chaos/test_conversing.py

kills: $(READY)  ## 10,000 deaths of peers in one process, 200 of real ones
	KILLS=10000 PROCESS_KILLS=200 $(BIN)/python -m pytest tests/chaos/test_peer_deaths.py

prove: $(READY)  ## does each chaos test fail when its recovery is taken out? (half an hour)
	$(BIN)/python -m tests.without_recovery $(ARGS)

check: $(READY)  ## formatting, lint, types, layers: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(READY)  ## a million random frames at codec, server and caller (ARGS: how many, which)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,fuzz]'
	$(BIN)/python -m tests.fuzz $(ARGS)

docs: $(READY)  ## write what the docs say of the code from the code
	$(BIN)/python docs/generate.py

format: $(READY)  ## put the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Peers live in an environment of their own: some of their names clash with ours.
$(PEERS): benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/peers.txt
	@touch $@

bench: $(READY) $(PEERS)  ## noyau and its peers or floors, measured in the same run
	$(BIN)/python -m benchmarks.messaging $(ARGS)
	$(BIN)/python -m benchmarks.hops $(ARGS)
	$(BIN)/python -m benchmarks.recovery $(ARGS)
	$(BIN)/python -m benchmarks.generation $(ARGS)
	$(BIN)/python -m benchmarks.startup $(ARGS)
	$(BIN)/python -m benchmarks.memory $(ARGS)
	$(BIN)/python -m benchmarks.storage $(ARGS)
	$(BIN)/python -m benchmarks.tools $(ARGS)
	$(BIN)/python -m benchmarks.steady $(ARGS)
	$(BIN)/python -m benchmarks.admission $(ARGS)
	$(BIN)/python -m benchmarks.failover $(ARGS)
	$(BIN)/python -m benchmarks.overload $(ARGS)
	$(BIN)/python -m benchmarks.supervision $(ARGS)
	$(BIN)/python -m benchmarks.breaker $(ARGS)

clean:  ## remove the environments and caches; models stay
	rm -rf $(VENV) .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis
