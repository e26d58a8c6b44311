# clew: `make demo` shows it, `make test` proves it. Everything that is needed goes into .venv and .cache beside this file.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# 0 takes a free one; the address is printed.
KAFKA_PORT ?= 0
# How many brokers `make kafka` starts.
BROKERS ?= 1
# How many processes run the tests: most of them wait, for brokers and for time to pass.
WORKERS ?= 4
# How long `make fuzz` takes for each target.
SECONDS ?= 60
# `make test-faults`: how many kills, which ones (empty: random ones, said at start), and what else it is told (see --help).
ROUNDS ?= 200
SEED   ?=
FAULTS ?=
# What `make bench` is told, for example BENCH="--only clew typical --rounds 1".
BENCH  ?=
# `make test-weather`: what it is told (see --help).
WEATHER ?=
# How long `make soak` takes, and what else it is told (see --help).
MINUTES ?= 60
SOAK ?=
READY  := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH :=
# Compiled modules are kept, whatever the environment says: the suite starts some hundred processes.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-faults test-weather soak check fuzz proto kafka bench lock clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "clew needs Python 3.11 or newer, this is %d.%d: set PYTHON=python3.11" % sys.version_info[:2])'
	@echo "setting up $(VENV) (about a minute the first time)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(READY) ## Install everything into .venv from the hashed lock

demo: $(READY) ## Start the mesh, drive it with real SDKs, show what came out, stop
	@clew demo

up: $(READY) ## Start the mesh and keep it running until Ctrl-C
	@clew up

test: $(READY) ## Run the whole test suite
	@python -m pytest -n $(WORKERS)

test-faults: $(READY) ## Kill every process under load, ROUNDS times (200), and count what is lost (needs Java 17, Maven, PostgreSQL)
	@python -m tests.faults --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED)) $(FAULTS)

test-weather: $(READY) ## Disturb a Kafka of three brokers under load: kills, cuts, a full disk ... (needs Java 17, Maven, PostgreSQL, faketime, root)
	@python -m tests.weather $(WEATHER)

soak: $(READY) ## Half load for MINUTES (60): does anything grow? (needs Java 17 and Maven)
	@python -m tests.soak --minutes $(MINUTES) $(SOAK)

check: $(READY) ## Format, lint, types, contracts, regenerate-and-diff, import rules
	@python tools/check.py

proto: $(READY) ## Regenerate gen/ from proto/
	@buf format -w proto
	@buf generate
	@python tools/compile_topics.py
	@python tools/compile_registry.py
	@python tools/compile_openapi.py
	@python tools/compile_asyncapi.py
	@python tools/contract_lock.py

kafka: $(READY) ## Start a real Apache Kafka without Docker, BROKERS of them (1; needs Java 17 and Maven)
	@python tools/kafka/kafka.py start --port $(KAFKA_PORT) --brokers $(BROKERS)

fuzz: $(READY) ## Fuzz the edge with atheris, SECONDS for each target
	@python -m tests.fuzz --seconds $(SECONDS)

bench: $(READY) ## Measure clew beside a typical service, Envoy and the machine's limits, in one interleaved run (13 min; BENCH="--help")
	@python -m bench.run $(BENCH)

lock: $(READY) ## Resolve the dependencies anew
	@python -m pip install --quiet --disable-pip-version-check uv
	@uv pip compile --quiet pyproject.toml --all-extras --python-version 3.11 --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header -o requirements.lock

clean: ## Remove what the targets above made
	rm -rf $(VENV) .cache .clew
