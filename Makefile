# Everything runs in .venv, which `make env` builds and every other target reuses. Two more environments answer one
# question each: .venv-oldest (the lowest versions that setup.cfg admits) and .venv-fork (MMEngine's maintained fork).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help env demo-data demo zoo-data zoo test test-all test-browser test-cluster test-slurm test-remote \
	test-kernels test-oldest test-oldest-torch test-fork docs bench gpu fuzz kill lint wheel clean

help:  ## this list
	@grep -hE '^[a-z -]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "make %-17s %s\n", $$1, $$2}'

env: .venv/.installed  ## environment in .venv (PYTHON=... picks the interpreter), refreshed when requirements change

# What pip holds each environment to, and what is done to it afterwards.
CONSTRAINTS = requirements/constraints.txt
FINISH = true
.venv-oldest/.installed: CONSTRAINTS = requirements/oldest.txt
# Both packages own the folder mmengine: the one goes before the other comes.
.venv-fork/.installed: FINISH = .venv-fork/bin/python -m pip uninstall -qq -y mmengine \
	&& .venv-fork/bin/python -m pip install -qq -r requirements/fork.txt

# Killed half-way, pip can leave a package that looks installed and is not: an environment still marked unfinished is
# built anew. An ordinary pip error installs nothing, so it removes the mark; Ctrl-C keeps it.
%/.installed: setup.cfg pyproject.toml $(wildcard requirements/*.txt)
	@if [ -e $*/.unfinished ] || ! $*/bin/python -m pip --version >/dev/null 2>&1; then \
		echo 'env: no complete environment in $*, creating one with $(PYTHON)'; \
		rm -rf $* && mkdir $* && touch $*/.unfinished && $(PYTHON) -m venv $*; \
	fi
	@echo 'env: installing the packages of requirements/ into $* (minutes the first time)'
	@touch $*/.unfinished; trap 'exit 130' HUP INT TERM; \
		$*/bin/python -m pip install -qq -e '.[demo,diffusers,fid,onnx,parquet,remote,zoo,tests,lint]' -c $(CONSTRAINTS) && $(FINISH); \
		status=$$?; rm -f $*/.unfinished; exit $$status
	@touch $@

demo-data: env  ## real photographs in data/demo, from the wheels of scikit-image and scikit-learn
	@echo 'demo-data: writing photographs to data/demo'
	@$(BIN)/python tools/make_demo_data.py data/demo

demo: env demo-data  ## train the demo's autoencoder on the CPU, evaluate it, print the report
	@echo 'demo: training configs/wfvae2_demo.py into work_dirs/demo'
	@$(BIN)/python tools/demo.py

# A file's tests stay in one process, because they share what they train.
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

zoo-data: env  ## photographs in data/zoo, from Debian packages that are fetched and not installed (0.8 GB, deleted again)
	@echo 'zoo-data: writing photographs to data/zoo'
	@$(BIN)/python tools/make_zoo_data.py configs/zoo/packages.csv data/zoo

zoo: env zoo-data  ## train the shipped model (hours); started again, it goes on
	@echo 'zoo: training configs/zoo/wfvae2_tiny.py, then wfvae2_tiny_256.py'
	@OMP_NUM_THREADS=1 $(BIN)/python tools/train.py configs/zoo/wfvae2_tiny.py --resume
	@OMP_NUM_THREADS=1 $(BIN)/python tools/train.py configs/zoo/wfvae2_tiny_256.py --resume

test: env  ## the test suite without slow and GPU tests
	@echo 'test: running the quick tests'
	@$(PYTEST) -m 'not slow and not gpu'

test-all: env  ## every test that this machine can run, with a GPU where there is one; coverage of 85% or more
	@$(BIN)/python -m pip install -qq -r requirements/docs.txt -c requirements/constraints.txt
	@echo 'test-all: running every test that needs no missing GPU'
	@$(PYTEST) --cov --cov-fail-under=85 \
		-m "$$($(BIN)/python -c 'import torch; print("" if torch.cuda.is_available() else "not gpu")')"

test-browser: env .venv-app/.installed  ## report, app and site in Debian's chromium and firefox-esr, which root installs by apt
	@command -v chromium >/dev/null && command -v firefox-esr >/dev/null || { \
		echo 'test-browser: installing chromium and firefox-esr'; apt-get update -qq && \
		apt-get install -y -qq --no-install-recommends chromium firefox-esr fonts-dejavu-core; }
	@[ -f build/docs/site/index.html ] && [ -z "$$(find README.md CHANGELOG.md docs wfvae_toolkit -newer build/docs/site/index.html \
		-type f -not -name '*.pyc' -print -quit)" ] || $(MAKE) docs
	@echo 'test-browser: running tests/browser'
	@.venv-app/bin/python -m pytest tests/browser

test-cluster: env  ## two machines (network namespaces): training, a lost machine, a slow link (root; minutes)
	@for program in ip tc unshare nsenter; do command -v $$program >/dev/null || { \
		echo 'test-cluster: installing iproute2 and util-linux'; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends iproute2 util-linux; break; }; done
	@echo 'test-cluster: running tests/cluster/test_two_machines.py'
	@$(BIN)/python -m pytest tests/cluster/test_two_machines.py -n 0

test-slurm: env  ## the same two machines under Debian's Slurm: srun, signals, requeue (root; minutes)
	@for program in ip munged slurmctld slurmd sbatch; do command -v $$program >/dev/null || { \
		echo 'test-slurm: installing slurm-wlm and munge'; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends iproute2 slurm-wlm munge; break; }; done
	@echo 'test-slurm: running tests/cluster/test_slurm.py'
	@$(BIN)/python -m pytest tests/cluster/test_slurm.py -n 0

test-remote: env  ## data by URL: nginx, throttled, cut and changed, and moto's S3 server (root installs nginx; minutes)
	@command -v nginx >/dev/null || { echo 'test-remote: installing nginx-light'; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light; }
	@$(BIN)/python -m pip install -qq -r requirements/remote_tests.txt -c requirements/constraints.txt
	@echo 'test-remote: running tests/remote'
	@$(BIN)/python -m pytest tests/remote -n 0

# What .venv lacks for the app and the browser, on top of it: Gradio 6.31 takes no Pillow 13, which .venv has.
.venv-app/.installed: requirements/app.txt requirements/browser.txt requirements/constraints.txt .venv/.installed
	@echo 'env: installing Gradio and Playwright into .venv-app, on top of .venv'
	@rm -rf .venv-app && $(BIN)/python -m venv .venv-app
	@$(BIN)/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
		> "$$(.venv-app/bin/python -c 'import site; print(site.getsitepackages()[0])')/env.pth"
	@grep -v '^pillow==' requirements/constraints.txt > .venv-app/constraints.txt
	@.venv-app/bin/python -m pip install -qq -r requirements/app.txt -r requirements/browser.txt 'pillow==12.3.0' \
		-c .venv-app/constraints.txt
	@touch $@

docs: env demo-data  ## the site in build/docs/site: pages, reference, a report, the executed notebook (minutes the first time)
	@$(BIN)/python -m pip install -qq -r requirements/docs.txt -c requirements/constraints.txt
	@$(BIN)/python docs/site/build.py

test-kernels: env  ## the numeric tests with every kind of CPU kernel that this processor has, 1, 2 and 4 threads
	@$(BIN)/python -m tests.kernels

# Each makes its environment, runs the quick tests in it and says with which versions.
test-oldest test-fork: BIN = .venv-$*/bin
test-oldest: .venv-oldest/.installed  ## the quick tests with the lowest versions that setup.cfg admits
test-fork: .venv-fork/.installed  ## the quick tests with onedl-mmengine in place of mmengine
test-oldest test-fork: test-%:
	@echo 'test-$*: running the quick tests in .venv-$*'
	@$(PYTEST) -m 'not slow and not gpu'
	@.venv-$*/bin/python -c "from wfvae_toolkit.utils.environment import describe_environment as describe; \
		print('test-$*: passed with', describe()['packages'])"

test-oldest-torch:  ## the quick tests with torch 2.6.0, in a Debian 13 system in .venv-debian (needs root, debootstrap)
	@tests/oldest_torch.sh .venv-debian

bench: env  ## a short form of the benchmark: our networks, the plain formulation, diffusers' AutoencoderKL
	@echo 'bench: 256 px on the CPU'
	@$(BIN)/python tools/analysis_tools/benchmark.py --works forward autoencoder_turn --rounds 3

DEVICE ?= cuda
MINUTES ?= 10
gpu: env  ## tests and benchmark of a machine with a GPU (at most 10 minutes; DEVICE=cpu runs them small)
	@$(BIN)/python -m tests.gpu --device $(DEVICE) --minutes $(MINUTES) --out work_dirs/gpu

kill: env  ## kill 2 x 102 small trainings, resume and compare them (over half an hour)
	@rm -rf work_dirs/kills
	@$(BIN)/python tests/reliability/kill_runs.py work_dirs/kills --kills 102

fuzz: env  ## damaged files at every reader, for five minutes
	@$(BIN)/python -m tests.fuzz.run --minutes 5 --seed 7

lint: env  ## ruff
	@echo 'lint: checking with ruff'
	@$(BIN)/ruff check

wheel: env  ## a wheel in dist/
	@echo 'wheel: building into dist/'
	@rm -rf build && $(BIN)/python -m pip wheel -qq --no-deps -w dist .

clean:  ## remove what builds and tests leave; keeps environments, data and work_dirs
	@echo 'clean: removing build products and caches'
	@rm -rf build dist *.egg-info .coverage .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
