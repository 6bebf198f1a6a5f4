# The ways to try, test and build headgate. `make` alone lists them.
#
# Everything is installed into .venv/ in this folder, with pip's own configuration. Another Python than
# python3:  make demo PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
DOCS_VENV := .venv-docs
SITE := build/docs/html
HEADGATE := $(VENV)/bin/headgate
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

# A stamp says that a set of packages was installed after pyproject.toml last changed.
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev
BENCH := $(BENCH_VENV)/.installed-bench
DOCS := $(DOCS_VENV)/.installed-docs

# The oldest redis-py that pyproject.toml allows, and the major versions of which the newest release is tested. Each has
# an environment of its own: .venv-redis-5.3.0/, .venv-redis-6/ and so on.
REDIS_VERSIONS := 5.3.0 6 7 8
REDIS_RUNS := $(REDIS_VERSIONS:%=test-redis-%)
REDIS_STAMPS := $(REDIS_VERSIONS:%=.venv-redis-%/.installed)
REDIS_TESTS := tests/contract/test_redis.py tests/contract/test_cluster.py tests/contract/test_sentinel.py \
	tests/stores/test_redis.py tests/stores/test_library.py tests/stores/test_sentinel.py tests/stores/test_valkey.py \
	tests/stores/test_cluster.py::test_a_cluster_client_is_accepted_and_left_alone

# Tests run in as many processes as there are processors, each file in one of them.
SIDE_BY_SIDE := -n auto --dist loadfile

# Where nothing was ever started, nothing has to be installed to stop it.
DEMO_IF_STARTED := $(if $(wildcard .demo),$(DEMO))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo start health test-traffic keys monitor logs stop clean test servers redis-versions $(REDIS_RUNS) format \
	side-by-side faults web-behaviours bench bench-web bench-stores exactness coming-from pictures docs docs-check build

help:
	@echo "headgate: exact rate limiting in one round trip"
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ See it work
demo: $(DEMO) ## Three instances, one limit: start, show, stop (about 6 s)
	@$(HEADGATE) demo

##@ Play with it
start: $(DEMO) ## Start the demo in the background
	@$(HEADGATE) demo start

health: $(DEMO) ## Show how each part of it is
	@$(HEADGATE) demo health

test-traffic: $(DEMO) ## Send 15 requests of one user over three instances, and 5 of another
	@$(HEADGATE) demo traffic

keys: $(DEMO) ## List the limiter's keys in the store
	@$(HEADGATE) demo keys

monitor: $(DEMO) ## Watch the commands that reach the store, until Ctrl-C
	@$(HEADGATE) demo monitor

logs: $(DEMO) ## Print the ends of the logs (make logs ARGS=--follow)
	@$(HEADGATE) demo logs $(ARGS)

stop: $(DEMO_IF_STARTED) ## Stop it
	@if [ -d .demo ]; then $(HEADGATE) demo stop; else echo "The demo is not running here."; fi

clean: $(DEMO_IF_STARTED) ## Stop it and remove its folder, .demo/
	@if [ -d .demo ]; then $(HEADGATE) demo clean; else echo "There is nothing to clean."; fi

##@ Work on it
test: $(DEV) ## Check format, lint and types, and run all tests, those of Redis with each redis-py
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/pyrefly check tests/typing/api.py tests/typing/web.py
	$(VENV)/bin/pytest $(SIDE_BY_SIDE)
	@$(MAKE) --no-print-directory redis-versions

servers: ## Install what tests and benchmarks use and no wheel has, by apt-get: Redis, PgBouncer, PostgreSQL, ...
	@tests/install_servers.sh

redis-versions: $(REDIS_RUNS) ## Run the tests of the Redis store with the oldest redis-py, and the newest 6, 7 and 8

$(REDIS_RUNS): test-redis-%: .venv-redis-%/.installed
	@echo "the Redis store with redis-py $$(.venv-redis-$*/bin/python -c 'import redis; print(redis.__version__)'):"
	@.venv-redis-$*/bin/pytest --quiet $(SIDE_BY_SIDE) $(REDIS_TESTS)

format: $(DEV) ## Format the code, and repair what the linter can
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

side-by-side: $(DEV) ## Ask all stores the same, a million times, and compare (half an hour; ARGS="1000 SEED")
	@$(VENV)/bin/python -m tests.stores.side_by_side $(ARGS)

faults: $(DEV) ## Let each fault happen once to each store, in mid-traffic, and print what was seen (two minutes)
	@$(VENV)/bin/python -m tests.faults.table $(ARGS)

web-behaviours: $(DEV) ## Ask each framework behind a real server, and print what holds (a minute)
	@$(VENV)/bin/python -m tests.web.behaviours $(ARGS)

pictures: $(DEV) ## Draw the pictures in docs/ anew, and record those of terminals (a quarter of a minute)
	$(VENV)/bin/python docs/draw_algorithms.py
	$(VENV)/bin/python docs/record_terminals.py

docs: $(DOCS) ## Make the site of the documentation (ten seconds); a warning is an error
	@rm -rf build/docs
	@$(DOCS_VENV)/bin/sphinx-build -b html -c docs/site -d build/docs/doctrees -q --fail-on-warning . $(SITE)
	@echo "The site is in $(SITE)/: open $(SITE)/index.html"

docs-check: docs ## Open each page of the site in Chromium, follow its links and search (a minute or two)
	@$(DOCS_VENV)/bin/python -m tests.docs.browse $(SITE) --search "token bucket" --finds docs/algorithms.html

bench: $(BENCH) ## Measure headgate beside its peers, in frameworks and on every store (20 min; ARGS=--quick: 3)
	$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)
	$(if $(filter-out --quick,$(ARGS)),,$(BENCH_VENV)/bin/python -m benchmarks.web $(ARGS))
	$(if $(filter-out --quick,$(ARGS)),,$(BENCH_VENV)/bin/python -m benchmarks.stores $(ARGS))

bench-web: $(BENCH) ## Measure what limits add to a request of each framework, beside its usual limiter (4 min)
	$(BENCH_VENV)/bin/python -m benchmarks.web $(ARGS)

bench-stores: $(BENCH) ## Measure each store, beside a transaction by hand (a quarter of an hour; ARGS="--only SQLite")
	$(BENCH_VENV)/bin/python -m benchmarks.stores $(ARGS)

exactness: $(BENCH) ## Ask headgate and its peers the same, and count what they admit (two minutes)
	$(BENCH_VENV)/bin/python -m benchmarks.exactness $(ARGS)

coming-from: $(BENCH) ## Run the pages on coming from other limiters, theirs beside ours, and compare (20 s)
	$(BENCH_VENV)/bin/python -m benchmarks.coming_from $(ARGS)

build: $(VENV)/bin/python ## Build the wheel and the source archive into dist/
	@echo "installing the build tool into $(VENV)/ ..."
	@$(VENV)/bin/python $(PIP_INSTALL) build
	$(VENV)/bin/python -m build --outdir dist

# What the targets above need.

$(VENV)/bin/python $(BENCH_VENV)/bin/python $(DOCS_VENV)/bin/python $(REDIS_VERSIONS:%=.venv-redis-%/bin/python):
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "There is no $(PYTHON) here. Name a Python 3.11 or newer: make demo PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "headgate needs Python 3.11 or newer, and $(PYTHON) is $$("$(PYTHON)" --version 2>&1)." >&2; \
		echo "Name another one: make demo PYTHON=python3.13" >&2; exit 1; }
	@echo "creating $(@D:/bin=)/ with $$("$(PYTHON)" --version) ..."
	@"$(PYTHON)" -m venv $(@D:/bin=) || \
		{ rm -rf $(@D:/bin=); echo "Could not create $(@D:/bin=)/. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(DEMO): pyproject.toml | $(VENV)/bin/python
	@echo "installing headgate and what its demo needs into $(VENV)/ ..."
	@$(VENV)/bin/python $(PIP_INSTALL) -e '.[demo]'
	@touch $@

$(DEV): pyproject.toml | $(VENV)/bin/python
	@echo "installing headgate and what its tests need into $(VENV)/ ..."
	@$(VENV)/bin/python $(PIP_INSTALL) -e '.[dev]'
	@touch $(DEMO) $@

$(BENCH): pyproject.toml | $(BENCH_VENV)/bin/python
	@echo "installing headgate and its peers into $(BENCH_VENV)/ ..."
	@$(BENCH_VENV)/bin/python $(PIP_INSTALL) -e '.[bench]'
	@touch $@

$(DOCS): pyproject.toml | $(DOCS_VENV)/bin/python
	@echo "installing the generator of the documentation into $(DOCS_VENV)/ ..."
	@$(DOCS_VENV)/bin/python $(PIP_INSTALL) -e '.[docs]'
	@touch $@

$(REDIS_STAMPS): .venv-redis-%/.installed: pyproject.toml | .venv-redis-%/bin/python
	@echo "installing headgate and redis-py $* into .venv-redis-$*/ ..."
	@.venv-redis-$*/bin/python $(PIP_INSTALL) -e '.[redis-test]' 'redis[hiredis]==$*.*'
	@touch $@
