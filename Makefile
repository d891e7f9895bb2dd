# soundclf: `make help` lists what there is.
# Each executed chapter is a target, so that `make reproduce` does only what is missing.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
PROFILE ?= full
DATASET ?= auto
SEED ?= 42
DEVICE ?= auto
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MIRROR := $(abspath $(wildcard ../shared))
export SOUNDCLF_MIRROR ?= $(MIRROR)
# Chapters compute on this device: cpu, cuda, mps, or auto for the fastest that is there.
export SOUNDCLF_DEVICE ?= $(DEVICE)
export PYTHONHASHSEED := 0
# Compiled modules are kept, whatever the environment says: a hundred processes would compile them anew.
export PYTHONDONTWRITEBYTECODE :=
export JUPYTER_PLATFORM_DIRS := 1
# Freed buffers stay with the process: training asks for the same ones at every step.
export MALLOC_MMAP_THRESHOLD_ := 33554432
export MALLOC_TRIM_THRESHOLD_ := 2000000000

# A folder or CSV is named from where make runs. Its name may hold spaces, at which make would cut it: a word
# stands in for them. Recipes take the name from their environment, where no shell reads it.
SPACE := $(subst ,, )
JOINED := $(subst $(SPACE),?space?,$(DATASET))
override DATASET := $(if $(findstring /,$(JOINED)),$(subst ?space?,$(SPACE),$(abspath $(JOINED))),$(DATASET))
export DATASET
# Other seeds keep their results to themselves.
OUT := $(if $(filter 42,$(SEED)),runs,runs/seed-$(SEED))
OPEN := (
CLOSE := )
PLAIN = $(subst $(OPEN),_,$(subst $(CLOSE),_,$(subst ',_,$(subst ",_,$(subst &,_,$(subst ;,_,$(1)))))))
RUNS := $(OUT)/$(PROFILE)/$(call PLAIN,$(subst $(SPACE),_,$(subst /,_,$(DATASET))))
# Two chapters at once share the cores: a run holds one of them as long as it lasts. In a quick look a chapter
# is one process.
ifeq ($(PROFILE),quick)
export SOUNDCLF_JOBS ?= 1
else
export SOUNDCLF_CORES ?= $(abspath $(OUT))/.cores
endif
# Some chapters bring data sets of their own; a folder of yours is spared them.
GENERAL := 01_data 02_transforms 03_scratch_cnn 04_fastai_transfer 05_optuna_tuning 06_eval_confusion 11_own_sounds
SPECIAL := 07_spoken_digits 08_waveform_cnn 09_audio_tagging 10_tabular_baselines 12_trust
CHAPTERS := $(GENERAL) $(if $(findstring /,$(DATASET)),,$(SPECIAL))
DONE := $(CHAPTERS:%=$(RUNS)/%.ipynb)

.PHONY: help install chapters reproduce test mutate reliability lint verify claims bench site app screenshots web lab tensorboard
.PHONY: readme export outputs clean audit replicate
.DELETE_ON_ERROR:

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/'
	@echo "  Settings: PROFILE=quick|full (now $(PROFILE)), SEED (now $(SEED)), DEVICE=auto|cpu|cuda|mps,"
	@echo "            DATASET=auto|esc50-10|synthetic|FOLDER (now $$DATASET), SOUNDCLF_MIRROR"

install: $(READY) ## make .venv with everything pinned

# Python compiles what it imports; pip would spend minutes on all 23,000 files first.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-compile --progress-bar on -q -c constraints.txt
TOO_OLD := soundclf needs Python 3.10 or newer: set PYTHON=python3.11, say.

$(READY): constraints.txt settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "$(TOO_OLD)")'
	@echo "== installing into $(VENV) (a few minutes and 7 GB, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) setuptools wheel
	@$(PIP) --no-build-isolation -e '.[train,onnx,live,app,serve,cluster,tabular,dev]'
	@touch $@

# Papermill runs a copy of each chapter with its parameters; the copies lie outside nbs/.
$(RUNS)/%.ipynb: nbs/%.ipynb $(READY)
	@mkdir -p $(@D) $(OUT)/.cores
	@echo "== $* ($(PROFILE), $$DATASET); progress: tail -f $(@D)/$*.log"
	@SECONDS=0; SOUNDCLF_QUIET=1 IN_TEST=1 $(BIN)/papermill $< $(@D)/.$*.running.ipynb --cwd nbs -k python3 --progress-bar \
	    --no-log-output -p dataset "$$DATASET" -p profile "$(PROFILE)" -p seed $(SEED) -p out "$(OUT)" \
	    > $(@D)/$*.log 2>&1 || { tail -30 $(@D)/$*.log; exit 1; }; \
	    mv $(@D)/.$*.running.ipynb $@; echo "== $*: $$SECONDS s"

# A chapter is run again when its module or anything that it stands on has changed. What it trained before is
# found by its key, so that only what a change touches is trained anew.
$(DONE): $(wildcard soundclf/core/*.py)
$(RUNS)/01_data.ipynb: soundclf/data.py
$(RUNS)/02_transforms.ipynb: soundclf/transforms.py $(RUNS)/01_data.ipynb
$(RUNS)/03_scratch_cnn.ipynb: soundclf/scratch_cnn.py $(RUNS)/02_transforms.ipynb
$(RUNS)/04_fastai_transfer.ipynb: soundclf/fastai_transfer.py soundclf/scratch_cnn.py $(RUNS)/02_transforms.ipynb
$(RUNS)/05_optuna_tuning.ipynb: soundclf/optuna_tuning.py $(RUNS)/03_scratch_cnn.ipynb $(RUNS)/04_fastai_transfer.ipynb
$(RUNS)/06_eval_confusion.ipynb: soundclf/eval_confusion.py $(RUNS)/05_optuna_tuning.ipynb
$(RUNS)/07_spoken_digits.ipynb: soundclf/spoken_digits.py soundclf/scratch_cnn.py $(RUNS)/02_transforms.ipynb
$(RUNS)/08_waveform_cnn.ipynb: soundclf/waveform_cnn.py soundclf/scratch_cnn.py $(RUNS)/02_transforms.ipynb
$(RUNS)/09_audio_tagging.ipynb: soundclf/audio_tagging.py soundclf/scratch_cnn.py $(RUNS)/02_transforms.ipynb
$(RUNS)/09_audio_tagging.ipynb: soundclf/fastai_transfer.py
$(RUNS)/10_tabular_baselines.ipynb: soundclf/tabular_baselines.py $(RUNS)/06_eval_confusion.ipynb
$(RUNS)/11_own_sounds.ipynb: soundclf/own_sounds.py $(wildcard soundclf/tools/*.py) $(RUNS)/06_eval_confusion.ipynb
# It reads what the others have found.
$(RUNS)/12_trust.ipynb: $(filter-out $(RUNS)/12_trust.ipynb,$(DONE)) $(wildcard figures/*.json)

chapters: $(DONE)

reproduce: $(READY) ## run every chapter end to end: figures, results.json, pictures in the executed notebooks
	@$(MAKE) --no-print-directory $(if $(findstring j,$(firstword -$(MAKEFLAGS))),,-j2) chapters
	@$(BIN)/python scripts/report.py "$$DATASET" "$(PROFILE)" "$(OUT)" "$(RUNS)"
	@if [ "$(PROFILE) $$DATASET $(OUT)" = "full auto runs" ]; then $(BIN)/python scripts/claims.py write && \
	    $(BIN)/python scripts/audit.py && $(MAKE) --no-print-directory chapters && $(BIN)/python scripts/outputs.py; fi

lint: $(READY) ## the house style, the layers of the modules, clean and exported notebooks
	@echo "== style (ruff)"
	@$(BIN)/ruff check -q
	@echo "== layers (import-linter); notebooks are clean, exported, and show every figure"
	@$(BIN)/lint-imports > $(VENV)/.layers 2>&1 & layers=$$!; failed=0; \
	    $(BIN)/python scripts/check.py || failed=1; \
	    wait $$layers || { cat $(VENV)/.layers; failed=1; }; exit $$failed

test: export MPLBACKEND := Agg
test: export SOUNDCLF_QUIET := 1
# Chapters are tested on generated sounds; tests of real recordings name them, where a mirror has them.
test: export SOUNDCLF_DATASET := synthetic
# One process is one core: notebooks and tests go side by side, and what they run stays within theirs.
test: export SOUNDCLF_JOBS := 1
test: export OMP_NUM_THREADS := 1
test: lint ## lint, the examples in every notebook, pytest
	@echo "== the examples in every notebook (nbdev_test)"
	@$(BIN)/python scripts/test_notebooks.py 2>&1 | cut -c1-300
	@echo "== pytest"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations 40 tests

mutate: $(READY) ## break a hundred lines, one at a time, and tell which test notices (takes hours)
	@$(BIN)/python tests/mutate.py

reliability: $(READY) ## inject every fault, and write what was seen to figures/reliability.json
	@$(BIN)/python scripts/reliability.py

verify: $(READY) ## run the profile twice from nothing, hashes in another order: same results.json, same weights
	@$(BIN)/python scripts/verify.py "$$DATASET" "$(PROFILE)" "$(SEED)"

claims: $(READY) ## recompute every claim from the tracked predictions, in seconds
	@$(BIN)/python scripts/claims.py

replicate: export CLAIM := $(CLAIM)
replicate: $(READY) ## train a claim's models again (CLAIM='words of a claim'), and say which tier it reached
	@$(BIN)/python scripts/replicate.py "$$CLAIM"

audit: $(READY) ## leaks and shortcuts of every data set here, and what our network loses without them
	@$(BIN)/python scripts/audit.py

bench: $(READY) ## speed and memory, as ratios against baselines measured in the same run
	@$(BIN)/python scripts/bench.py "$$DATASET"

site: $(READY) ## the book as HTML in site/, with the reference of the module
	@test -f $(VENV)/.site || { $(PIP) --no-build-isolation -e '.[site]' && touch $(VENV)/.site; }
	@$(BIN)/python scripts/build_site.py

export: $(READY) ## modules, clean notebooks and the README from the notebooks; touches only what changed
	@$(BIN)/python scripts/export.py
	@$(BIN)/python scripts/readme.py write

readme: $(READY) ## README.md from nbs/index.ipynb
	@$(BIN)/python scripts/readme.py write

outputs: $(READY) ## the short texts of the last full run into the notebooks
	@$(BIN)/python scripts/outputs.py

app: $(READY) ## the app in a browser, for this machine only
	@$(BIN)/streamlit run app.py

screenshots: $(READY) ## pictures of the app on real data (needs Chromium)
	@$(BIN)/python scripts/screenshots.py

WASM := web/node_modules/onnxruntime-web/dist

web: ## the page that `soundclf export MODEL --web FOLDER` writes, into the package (needs npm)
	@command -v npm > /dev/null || { echo "make web needs npm: install Node.js 18 or newer."; exit 1; }
	@cd web && npm ci --silent
	@mkdir -p soundclf/web
	@cp web/*.html web/*.css web/*.js web/*.svg web/LICENSES.txt soundclf/web
	@sed '/sourceMappingURL/d' $(WASM)/ort.wasm.bundle.min.mjs > soundclf/web/ort.js
	@gzip -9nc $(WASM)/ort-wasm-simd-threaded.wasm > soundclf/web/ort-wasm.bin
	@echo "The page is in soundclf/web ($$(du -sh --apparent-size soundclf/web | cut -f1))"

lab: $(READY) ## JupyterLab on the notebooks
	@$(BIN)/jupyter lab nbs

tensorboard: $(READY) ## TensorBoard on all runs
	@$(BIN)/tensorboard --logdir runs

clean: ## remove runs and the rendered book (not data, not the environment)
	@rm -rf runs site jupyter_execute
