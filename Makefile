# One place for every command a developer or a user of this repository runs. `make help` lists them.
# Tools land in a cache outside the clone, keyed by the lock files, so a second clone starts warm.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE  := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/finetune-operator
PYTHON ?= python3
VENV   := $(CACHE)/venv-$(shell sha256sum tests/requirements.lock | cut -c1-12)
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
UV     := $(CACHE)/uv-0.13.9/bin/uv
export UV_CACHE_DIR := $(CACHE)/uv-cache
export PYTHONPATH := $(CURDIR)/operator:$(CURDIR)/trainer-image:$(CURDIR)/manifests/monitoring:$(CURDIR)/tests

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(UV):
	@echo "==> uv 0.13.9 (package installer)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(CACHE)/uv-0.13.9 \
	  || { echo "The venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }
	@$(CACHE)/uv-0.13.9/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

$(READY): | $(UV)
	@echo "==> Python environment $(VENV) (about 3 GB to download when nothing is cached)"
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@$(UV) pip install --python $(BIN)/python --require-hashes -r tests/requirements.lock 2>&1 | { grep -v '^ [+-] ' || true; }
	@touch $@

.PHONY: venv
venv: $(READY) ## Python environment with every locked dependency (outside the clone)
	@ln -sfn $(VENV) .venv

PEERS := benchmarks/train_speed/environments

.PHONY: lock
lock: | $(UV) ## Resolve the *.in files into the lock files
	$(UV) pip compile -q --no-header --universal --python-version 3.11 --generate-hashes operator/requirements.in -o operator/requirements.lock
	$(UV) pip compile -q --no-header --universal --python-version 3.11 --generate-hashes trainer-image/requirements.in -o trainer-image/requirements.lock
	$(UV) pip compile -q --no-header --universal --python-version 3.11 --generate-hashes tests/requirements.in -o tests/requirements.lock \
	  -c operator/requirements.lock -c trainer-image/requirements.lock
	$(UV) pip compile -q --no-header --universal --python-version 3.11 --generate-hashes $(PEERS)/huggingface.in -o $(PEERS)/huggingface.lock
	$(UV) pip compile -q --no-header --universal --python-version 3.11 --generate-hashes $(PEERS)/unsloth.in -o $(PEERS)/unsloth.lock \
	  --override $(PEERS)/unsloth.overrides

# --- the main job ------------------------------------------------------------------------------

.PHONY: demo
demo: $(READY) ## From nothing to a published model: cluster, operator, Hub, a run, and its proof
	@$(BIN)/python -m demo

# An environment of its own, outside the clone, with links in ~/.local/bin (UV_TOOL_BIN_DIR).
.PHONY: cli
cli: | $(UV) ## Install kubectl finetune of this clone, with the trainer for `finetune run`
	@echo "==> finetune, kubectl-finetune and the trainer (about 3 GB to download when nothing is cached)"
	@rm -rf trainer-image/build # where setuptools keeps, and would install, what has been removed since
	@$(UV) tool install --quiet --python $(PYTHON) --with ./trainer-image --constraints tests/requirements.lock .
	@bin=$$($(UV) tool dir --bin); case ":$$PATH:" in \
	    *":$$bin:"*) echo "==> They are in $$bin";; \
	    *) echo "==> They are in $$bin, which is not on the PATH yet: export PATH=\"$$bin:\$$PATH\"";; \
	  esac

# --- checks ------------------------------------------------------------------------------------

SOURCES := operator trainer-image manifests tests benchmarks

# What is not cached is built beside all else, at the lowest priority: most of that else is waiting.
.PHONY: test
test: ## Everything: checks, unit, integration on a control plane, end to end on a node
	@mkdir -p $(CACHE); for what in binaries images; do \
	    nice -n 19 $(PYTHON) -m cluster ahead $$what > $(CACHE)/ahead-$$what.log 2>&1 & \
	  done; \
	  trap 'kill $$(jobs -p) 2> /dev/null || true' EXIT; \
	  $(MAKE) --no-print-directory check crd-check dashboards-check unit integration && \
	  $(BIN)/pytest --ignore tests/unit --ignore tests/integration --ignore tests/e2e && \
	  $(MAKE) --no-print-directory e2e

.PHONY: check
check: $(READY) ## Lint, format, types, layer contract
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy operator/finetune_operator operator/finetune_cli trainer-image/finetune_trainer manifests/monitoring/finetune_dashboards tests benchmarks
	@$(BIN)/lint-imports --no-cache

.PHONY: format
format: $(READY) ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

.PHONY: unit
unit: $(READY) ## Unit tests only
	@$(BIN)/pytest tests/unit -n auto --dist loadfile --no-loadscope-reorder

# They mostly wait: two control planes side by side, where this machine can have its own.
.PHONY: integration
integration: $(READY) ## Tests against a real API server
	@$(BIN)/python -m cluster build control-plane && $(BIN)/python -m cluster build tools && planes=2 || planes=0; \
	  $(BIN)/pytest tests/integration -n $$planes

.PHONY: e2e
e2e: $(READY) ## Tests on a real node
	@$(BIN)/python -m stack && runs=2 || runs=0; $(BIN)/pytest tests/e2e -n $$runs --dist loadfile

.PHONY: e2e-methods
e2e-methods: $(READY) ## A FineTuneJob for each method and task, on a real node
	@$(BIN)/pytest tests/e2e/test_every_method.py -m every_method -rP

# --- figures -------------------------------------------------------------------------------------

.PHONY: bench-operator
bench-operator: $(READY) ## Latency, API writes and memory of the operator, on a control plane of its own
	@$(BIN)/python benchmarks/operator_latency.py

# Arguments go in ARGS: make bench-train ARGS="--quick --workloads short"
.PHONY: bench-train
bench-train: $(READY) ## Training speed beside TRL, Unsloth and Transformers, in one interleaved run (about 35 min)
	@PYTHONPATH=$(PYTHONPATH):$(CURDIR)/benchmarks $(BIN)/python -m train_speed $(ARGS)

# --- generated files -----------------------------------------------------------------------------

DASHBOARDS := manifests/monitoring/dashboards

.PHONY: crd
crd: $(READY) ## Generate crds/finetunejobs.yaml and docs/api-reference.md from the pydantic models
	@$(BIN)/python -m finetune_operator.api.crdgen > crds/finetunejobs.yaml.new
	@mv crds/finetunejobs.yaml.new crds/finetunejobs.yaml
	@$(BIN)/python -m finetune_operator.api.reference > docs/api-reference.md.new
	@mv docs/api-reference.md.new docs/api-reference.md

.PHONY: crd-check
crd-check: $(READY) ## Fail when crds/ or the API reference is not what the models say
	@$(BIN)/python -m finetune_operator.api.crdgen | diff -u crds/finetunejobs.yaml - \
	  || { echo "crds/finetunejobs.yaml is out of date: run make crd"; exit 1; }
	@$(BIN)/python -m finetune_operator.api.reference | diff -u docs/api-reference.md - \
	  || { echo "docs/api-reference.md is out of date: run make crd"; exit 1; }

.PHONY: helm-docs
helm-docs: $(READY) ## Write the table of the chart's values into docs/helm.md, and what catalogues read into Chart.yaml
	@$(BIN)/python -m unit.helm.values_table
	@$(BIN)/python -m unit.helm.catalogue

.PHONY: argocd
argocd: $(READY) ## Write the test data of manifests/argocd and its patches of argocd-cm
	@$(BIN)/python -m unit.gitops.argocd

.PHONY: monitoring
monitoring: $(READY) ## Write the PrometheusRule from the rules, and the tables of docs/metrics.md
	@$(BIN)/python -m unit.monitoring.generated

.PHONY: dashboards
dashboards: $(READY) ## Write Grafana's dashboards to manifests/monitoring/dashboards
	@$(BIN)/python -m finetune_dashboards $(DASHBOARDS)

.PHONY: dashboards-check
dashboards-check: $(READY) ## Fail when the dashboards are not what manifests/monitoring/finetune_dashboards makes
	@made=$$(mktemp -d); trap "rm -r $$made" EXIT; $(BIN)/python -m finetune_dashboards $$made; \
	  diff -ru $(DASHBOARDS) $$made || { echo "$(DASHBOARDS) is out of date: run make dashboards"; exit 1; }

# --- a whole Kubernetes on this machine, without Docker (tests/cluster) ---------------------------

.PHONY: cluster
cluster: ## Bring up a Kubernetes cluster on this machine (Linux, root), or repair it
	@$(PYTHON) -m cluster up

.PHONY: cluster-down
cluster-down: ## Take it away without a trace; what is cached stays
	@$(PYTHON) -m cluster down

.PHONY: cluster-status
cluster-status: ## Say which parts of it run
	@$(PYTHON) -m cluster status
