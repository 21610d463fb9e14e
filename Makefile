# Hindsight. `make demo` shows it, `make test` proves it; both set themselves up on a machine with Python, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := 0.13.9
READY := $(VENV)/.ready
RIVALS := .venv-rivals/bin/python

.PHONY: demo test test-packages up down lint unit simulate chaos test-long reinfer-rates bench bench-hops bench-ingest bench-null bench-engine bench-spike bench-replay bench-releases bench-rollouts bench-capacity lock proto clean

demo: $(READY)
	$(BIN)/hindsight up
	$(BIN)/hindsight demo
	@echo
	@echo "the stack is left up: make down stops it"

test: $(READY) test-packages lint
	$(BIN)/python -m tests.halves

# The tests hold docker-compose.yml against a real parser of compose files.
test-packages:
	@command -v docker-compose >/dev/null || { echo "installing docker-compose for the tests"; \
	  { apt-get update -q && apt-get install -y -q --no-install-recommends docker-compose; } >/dev/null || \
	  { echo "install docker-compose with your system's packages, then run make test again"; exit 1; }; }

unit: $(READY)
	$(BIN)/python -m pytest tests/unit tests/property

# Faults on real servers of its own, under load, at the moments that a seed draws; writes docs/reference/chaos.*. About half an hour.
chaos: $(READY)
	$(BIN)/python -m tests.chaos --out docs/reference

# Longer forms of what `make test` holds already.
test-long: $(READY)
	$(BIN)/python -m pytest -m long --timeout 900

# How often 200 frames of a run are reproduced, as docs/reference/reinference.md reports.
reinfer-rates: $(READY)
	REINFER_FRAMES=200 $(BIN)/python -m pytest tests/e2e/test_reinfer.py -k reproduced -s

# The steps in 10,000 seeded worlds, on all cores; a seed that fails is shrunk. About half an hour on two idle cores.
simulate: $(READY)
	$(BIN)/python -m tests.simulation --seeds 10000

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

up: $(READY)
	$(BIN)/hindsight up

down:
	@if [ -x $(BIN)/hindsight ]; then $(BIN)/hindsight down; else echo "already down; nothing to do"; fi

# The environment holds exactly the lock file. uv installs it in seconds; pip does the same where uv finds no index.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, and this is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "installing python3-venv"; apt-get update -q && apt-get install -y -q python3-venv && $(PYTHON) -m venv $(VENV); }
	@echo "installing the Python packages of requirements.lock (1.5 GB; a minute or more on a new machine)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV)
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements.lock || $(BIN)/python -m pip install -q --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# Compiled once: every program that starts would do it again where Python may not write beside its sources.
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib schemas streams processors topology triton_models >/dev/null 2>&1 || true
	@touch $@

lock:
	$(BIN)/uv pip compile pyproject.toml --extra local --extra edge --extra export --extra dev --universal --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links --python-version 3.11 -o requirements.lock

proto: $(READY)
	$(BIN)/python -m streams.grpc_gateway.generate

bench: bench-hops bench-ingest bench-null bench-engine bench-spike bench-replay bench-releases bench-rollouts bench-capacity

# A view beside Quix Streams and a loop by hand, which have an environment of their own; writes docs/reference/view-speed.*
bench-hops: $(RIVALS)
	$(BIN)/python -m tests.benchmarks.view_hop --rivals $(RIVALS)

# What a frame costs in one processor when the model does nothing, beside the same job on other frameworks; about ten minutes.
bench-null: $(RIVALS)
	$(BIN)/python -m tests.benchmarks.null_model --rivals $(RIVALS)

$(RIVALS): tests/benchmarks/rivals.txt $(READY)
	@[ -x $(RIVALS) ] || $(PYTHON) -m venv .venv-rivals
	$(BIN)/uv pip install -q --python $(RIVALS) -r tests/benchmarks/rivals.txt
	@touch $(RIVALS)

# The whole way of a frame beside its real models, called directly; about eight minutes; writes docs/reference/engine-overhead.*
bench-engine: $(READY)
	$(BIN)/python -m tests.benchmarks.engine_overhead

# Ten times the load for a while, and a second worker; about two minutes; writes docs/reference/spike.*
bench-spike: $(READY)
	$(BIN)/python -m tests.benchmarks.spike

# What 10,000 frames a second would take, from what a frame costs here; about three minutes; writes docs/reference/capacity.*
bench-capacity: $(READY)
	$(BIN)/python -m tests.benchmarks.capacity

# Frames a second to safety through the gateway, and its memory without a broker; about five minutes; writes docs/reference/ingest-speed.*
bench-ingest: $(READY)
	$(BIN)/python -m tests.benchmarks.ingest

# About half an hour; writes docs/reference/replay-speed.*
bench-replay: $(READY)
	$(BIN)/python -m tests.benchmarks.replay_speed

# Who was in production at 100 moments of a year of 1,000 changes, against brute force; needs `make up`.
bench-releases: $(READY)
	$(BIN)/python -m tests.benchmarks.releases_at

# About ten minutes on two idle cores; writes docs/reference/rollout-rates.md
bench-rollouts: $(READY)
	$(BIN)/python -m tests.benchmarks.rollout_rates

clean: down
	rm -rf $(VENV) .venv-rivals .hindsight build *.egg-info
