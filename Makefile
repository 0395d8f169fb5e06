# freepage: everything runs in .venv, which these targets make and keep up to date themselves.
#
#   make demo      a cluster on this machine: the hook at work, and the leak when it is skipped (ARGS="--seconds 5 ...")
#   make test      lint, types and tests
#   make soak      servers and networks that fail, for an hour, with figures
#   make bench     speed, as ratios to something everybody knows
#
# Another interpreter beside the first:  make test PYTHON=python3.13 VENV=.venv-3.13

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
SOURCES := pagecache client server runtime lab

# Which Python: the one asked for, or the first of these that runs and is new enough. A version manager's shim may be on
# PATH without a Python behind it, hence "runs".
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
define find_python
python=; for candidate in $(PYTHONS); do \
  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then echo "freepage needs Python 3.11 or newer; tried: $(PYTHONS) (name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3)" >&2; exit 1; fi
endef

# $(call make_venv,DIRECTORY): a fresh environment there. Refuses a directory that is something else.
define make_venv
if [ -e $(1) ] && [ ! -e $(1)/pyvenv.cfg ] && [ -n "$$(ls -A $(1))" ]; then echo "$(1) is not a virtual environment: remove it, or name another with VENV=" >&2; exit 1; fi; \
rm -rf $(1); \
if command -v uv >/dev/null 2>&1; then uv venv --quiet --seed --python "$$(command -v "$$python")" $(1); \
elif "$$python" -c 'import ensurepip, venv' 2>/dev/null; then "$$python" -m venv $(1); \
else echo "$$python has no venv module (Debian: apt-get install python3-venv)" >&2; exit 1; fi
endef

# $(call install,DIRECTORY,ARGUMENTS): uv where there is one, pip otherwise.
define install
if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(1)/bin/python $(2); \
else $(1)/bin/python -m pip --disable-pip-version-check --no-input install -qq $(2); fi
endef

# The stamp holds what the environment was made for. A checkout that was copied, an interpreter that is gone, or another
# PYTHON: make it anew. A newer lock or pyproject.toml: install what changed.
STAMP := $(VENV)/.freepage-stamp
STAMPED := $(shell [ -x $(BIN)/python ] && cat $(STAMP) 2>/dev/null)
FRESH := $(and $(findstring <$(CURDIR)>,$(STAMPED)),$(if $(PYTHON),$(findstring <$(PYTHON)>,$(STAMPED)),yes))
ifeq ($(FRESH),)
$(STAMP): remake
endif
.PHONY: remake
remake:

$(STAMP): pyproject.toml requirements-dev.lock
	@set -e; $(find_python); \
	if [ -z "$(FRESH)" ]; then $(call make_venv,$(VENV)); fi; \
	echo "freepage: installing into $(VENV) with $$python" >&2; \
	$(call install,$(VENV),--require-hashes -r requirements-dev.lock); \
	$(call install,$(VENV),--no-deps --no-build-isolation -e .); \
	echo "<$(CURDIR)> <$(PYTHON)>" >$@

.PHONY: venv
venv: $(STAMP)  ## the environment alone

.PHONY: demo
demo: $(STAMP)  ## servers, clients and the leak, on this machine (ARGS="--hold" keeps it running)
	@$(BIN)/freepage demo $(ARGS)

.PHONY: soak
soak: $(STAMP)  ## what goes wrong in a machine room, for an hour (ARGS="crash --seed 7 --scale 0.1 --json soak.json")
	@$(BIN)/freepage soak $(ARGS)

.PHONY: test
test: lint types  ## lint, types and tests (ARGS="-k name" for some of the tests)
	$(BIN)/python -m pytest -q $(ARGS)

.PHONY: test-all
test-all: lint types proto-current  ## the same with the slow tests
	$(BIN)/python -m pytest -q --full $(ARGS)

# Caches of others to compare with. Where they cannot be had, those rows are not counted.
PEERS := $(VENV)/.freepage-bench-stamp
$(PEERS): $(STAMP) requirements-bench.lock
	@$(call install,$(VENV),--require-hashes -r requirements-bench.lock) || echo "freepage: cannot install what some rows compare with" >&2
	@touch $@

.PHONY: bench
bench: $(PEERS)  ## speed as ratios, on an idle machine (ARGS="hit wire --json FILE")
	@$(BIN)/freepage bench $(ARGS)

.PHONY: test-cluster
test-cluster: $(STAMP)  ## the compose cluster, on a Docker engine
	$(BIN)/python -m pytest -q --cluster tests/e2e/test_cluster.py $(ARGS)

.PHONY: test-mount
test-mount: $(STAMP)  ## everything about FUSE mounts: SQLite, git, fio, rsync, make, Python's own tests (15 minutes)
	$(BIN)/python -m pytest -q --full tests/mount $(ARGS)

# Printed before the run and again by Hypothesis when a test fails: make explore SEED=n repeats it.
SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
.PHONY: explore
explore: $(STAMP)  ## the property tests with a random seed (SEED=n repeats one)
	FREEPAGE_HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -q --full --hypothesis-seed=$(SEED) tests/unit tests/sim $(ARGS)

.PHONY: lint
lint: proto-check  ## style, import contracts, wire contract
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet || { echo "run: make format" >&2; exit 1; }
	$(BIN)/lint-imports --no-cache

.PHONY: types
types: $(STAMP)  ## mypy --strict over packages and tests
	$(BIN)/mypy

.PHONY: format
format: $(STAMP)  ## rewrite the sources as ruff likes them
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format --quiet

.PHONY: proto-check
proto-check: $(STAMP)  ## buf: the .proto files' style, and that they break no promise of the last release
	cd proto && $(abspath $(BIN))/buf lint
	cd proto && $(abspath $(BIN))/buf breaking --against baseline.binpb

.PHONY: proto-release
proto-release: $(STAMP)  ## make the .proto files of now the promise that later ones must keep
	cd proto && $(abspath $(BIN))/buf build --exclude-source-info -o baseline.binpb

# The generated code is committed, so only someone who changes a .proto file needs the compiler.
PROTO_VENV := .make/proto
$(PROTO_VENV)/.freepage-stamp: requirements-proto.lock
	@set -e; $(find_python); mkdir -p .make; $(call make_venv,$(PROTO_VENV)); \
	$(call install,$(PROTO_VENV),--require-hashes -r requirements-proto.lock); \
	touch $@

.PHONY: proto
proto: $(PROTO_VENV)/.freepage-stamp  ## generate the Python code of proto/freepage_proto/v1/*.proto
	$(PROTO_VENV)/bin/python proto/generate.py

.PHONY: proto-current
proto-current: $(PROTO_VENV)/.freepage-stamp  ## that the committed code is what make proto would write
	$(PROTO_VENV)/bin/python proto/generate.py --check

# Needs uv. The locks name no index, hold for every supported Python, and agree with one another.
UV_COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url $(UPGRADE)
.PHONY: lock
lock:  ## resolve the dependencies anew (UPGRADE=--upgrade takes newer versions)
	@command -v uv >/dev/null 2>&1 || { echo "make lock needs uv (pip install uv)" >&2; exit 1; }
	$(UV_COMPILE) pyproject.toml --extra ops --extra report --group dev -o requirements-dev.lock
	$(UV_COMPILE) pyproject.toml --extra ops -c requirements-dev.lock -o requirements.lock
	$(UV_COMPILE) --group build -c requirements-dev.lock -o requirements-build.lock
	$(UV_COMPILE) --group proto -o requirements-proto.lock
	$(UV_COMPILE) --group bench -c requirements-dev.lock -o requirements-bench.lock

.PHONY: dashboards
dashboards: $(STAMP)  ## write deploy/grafana/dashboards/*.json from the code beside them
	PYTHONPATH=deploy/grafana $(BIN)/python -m freepage_grafana

.PHONY: clean
clean:  ## remove caches and build outputs; the environment stays
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	find $(SOURCES) proto tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean  ## and the environments
	rm -rf $(VENV) .make

.PHONY: help
help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
