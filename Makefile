# The same commands for people and for the automatic checks. Needs python3 (3.11 or newer), venv and make.
PYTHON ?= python3
VENV ?= .venv
PROMPT ?= a red ball bounces on a grass field during the day
FILM ?= film.mp4
BIN := $(VENV)/bin
AXE := 4.14.1
.PHONY: film setup test test-slow test-gpu test-studio coverage check figures studio-figures docs hardware bench soak

# uv reads no pip setting, so a folder of local wheels is handed on: both then take the same torch.
ifndef UV_FIND_LINKS
export UV_FIND_LINKS := $(shell echo $${PIP_FIND_LINKS:-$$($(PYTHON) -m pip config get global.find-links 2>/dev/null)} | tr ' ' ',')
endif
UV := $(BIN)/uv pip install --python $(BIN)/python -b constraints.txt
INSTALL := $$(test -x $(BIN)/uv && echo "$(UV)" || echo "$(BIN)/python -m pip install") -q -c constraints.txt -e

film: $(VENV)/.core  # install the core, then make one film: FILM from PROMPT
	$(BIN)/longtake generate "$(PROMPT)" -o "$(FILM)" --overwrite

setup: $(VENV)/.setup  # install every extra that runs on a CPU

test: setup  # the default tests: no GPU, nothing slow
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

coverage: setup  # every line and branch of the small maths
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -q $(addprefix tests/test_,$(addsuffix .py,flow samplers guidance config evaluate_metrics))
	$(BIN)/coverage report

test-slow: setup  # the tests over ten seconds: a clean install, long films
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "slow and not gpu and not compile and not soak"
	JAXTYPING_DISABLE=1 $(BIN)/pytest -m compile

test-gpu: setup  # on a CUDA card; kernels are compiled as they stand, so without the checker of shapes
	$(BIN)/pytest -o addopts="-ra --strict-markers --import-mode=importlib" -m gpu tests

test-studio: setup  # the Studio in Chromium; what cannot be had here is said, and its tests skip
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null || echo "no Chromium can be had here"
	@test -d node_modules/axe-core || npm install --no-save --silent axe-core@$(AXE) || echo "no axe-core can be had here"
	OMP_NUM_THREADS=1 $(BIN)/pytest -m studio

check: setup  # style, types, the floor plan, spelling, and no folder or address of one machine
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	! git grep -nIE --untracked '(^|[^[:alnum:]_.~])/(work|root|opt)/|https?://[^ ]*/(simple|packages)/' -- . ':!LICENSE'

figures: $(VENV)/.core  # every picture of the README and the model card, from the shipped weights
	$(BIN)/python benchmarks/figures.py

studio-figures: setup  # pictures of the Studio for its guide; needs Chromium
	$(BIN)/python benchmarks/studio_figures.py

docs: $(VENV)/.core  # the reference pages, from the code
	$(BIN)/python -m longtake.cli.reference > docs/reference/cli.md
	$(BIN)/python -m longtake.cli.settings_page > docs/reference/settings.md
	$(BIN)/python -m longtake.cli.python_page > docs/reference/python.md
	$(BIN)/python tests/faults/rows.py > docs/reference/faults.md

hardware: $(VENV)/.setup  # the page of what machine is needed; two minutes
	$(BIN)/python -m longtake.cli.hardware_page > docs/hardware.md

soak: setup  # the full counts of the faults: takes, the server, its workers killed a hundred times; about an hour
	$(BIN)/python benchmarks/soak_takes.py --rounds 100 --kills 2
	$(BIN)/python benchmarks/faults_server.py --rounds 100
	$(BIN)/pytest -m soak tests/faults
	$(BIN)/python benchmarks/bench_server.py --only soak --seconds 600
	$(BIN)/python benchmarks/soak_training.py --rounds 20

bench: $(VENV)/.core  # denoiser, autoencoder and a whole film on this machine: a JSON line each
	for what in transformer autoencoder film; do $(BIN)/python benchmarks/bench_$$what.py || exit 1; done

$(VENV)/.uv:  # a venv with uv inside; where python3 lacks venv, a uv on the PATH makes one; without uv, pip does it all
	$(PYTHON) -m venv $(VENV) || uv venv --clear --seed --python $(PYTHON) $(VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt uv || echo "uv cannot be had here: pip installs, in more time"
	@touch $@

$(VENV)/.core: $(VENV)/.uv pyproject.toml constraints.txt
	$(INSTALL) . && touch $@

$(VENV)/.setup: $(VENV)/.core
	$(INSTALL) ".[official,train,data,serve,fleet,interp,dev]" && touch $@
