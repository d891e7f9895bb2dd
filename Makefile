# soundclf: `make help` lists what there is. Each executed notebook is a target, so that `make -j2 reproduce` does only what is missing.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
PROFILE ?= full
DATASET ?= auto
SEED ?= 42
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MIRROR := $(abspath $(wildcard ../shared))
export SOUNDCLF_MIRROR ?= $(MIRROR)
export PYTHONHASHSEED := 0
export MPLBACKEND := Agg
export JUPYTER_PLATFORM_DIRS := 1
# threads wait a moment for the next operation before they sleep: a fifth faster than sleeping at once, and no burning core
export GOMP_SPINCOUNT := 5000
# freed buffers stay with the process: training asks for the same ones at every step
export MALLOC_MMAP_THRESHOLD_ := 33554432
export MALLOC_TRIM_THRESHOLD_ := 2000000000

# a folder or CSV is named from where make runs; other seeds keep their results to themselves
override DATASET := $(if $(findstring /,$(DATASET)),$(abspath $(DATASET)),$(DATASET))
OUT := $(if $(filter 42,$(SEED)),runs,runs/seed-$(SEED))
RUNS := $(OUT)/$(PROFILE)/$(subst /,_,$(DATASET))
SPINE := 01_data 02_transforms 03_scratch_cnn 04_fastai_transfer 05_optuna_tuning 06_eval_confusion 11_predict
# studies bring data sets of their own, so a folder of yours is spared them
STUDIES := $(SPINE) $(if $(findstring /,$(DATASET)),,07_spoken_digits 08_waveform_cnn 09_audio_tagging 10_tabular_baselines)
DONE := $(STUDIES:%=$(RUNS)/%.ipynb)

.PHONY: help install reproduce test verify bench app screenshots lab tensorboard readme clean
.DELETE_ON_ERROR:

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/'
	@echo "  Settings: PROFILE=quick|full (now $(PROFILE)), DATASET=auto|esc50-10|synthetic|FOLDER (now $(DATASET)), SEED (now $(SEED)), SOUNDCLF_MIRROR"

install: $(READY) ## make .venv with everything pinned

$(READY): constraints.txt settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 10) else f"soundclf needs Python 3.10 or newer, and $(PYTHON) is {v.major}.{v.minor}: set PYTHON=python3.11, say.")'
	@echo "== installing into $(VENV) (about two minutes and 7 GB, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -q -c constraints.txt setuptools wheel
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -q -c constraints.txt --no-build-isolation -e '.[train,onnx,live,app,cluster,tabular,dev]'
	@touch $@

# papermill runs a copy of each notebook with its parameters; the copies lie outside nbs/
$(RUNS)/%.ipynb: nbs/%.ipynb $(READY)
	@mkdir -p $(@D); echo "== $* ($(PROFILE), $(DATASET)); progress: tail -f $(@D)/$*.log"
	@IN_TEST=1 $(BIN)/papermill $< $(@D)/.$*.running.ipynb --cwd nbs -k python3 --progress-bar --no-log-output \
	    -p dataset "$(DATASET)" -p profile "$(PROFILE)" -p seed $(SEED) -p out "$(OUT)" > $(@D)/$*.log 2>&1 || { tail -30 $(@D)/$*.log; exit 1; }
	@mv $(@D)/.$*.running.ipynb $@

# who needs whom: the module a notebook exports, and the runs before it
$(RUNS)/01_data.ipynb: soundclf/core.py soundclf/audio.py soundclf/data.py
$(RUNS)/02_transforms.ipynb: soundclf/transforms.py $(RUNS)/01_data.ipynb
$(RUNS)/03_scratch_cnn.ipynb: soundclf/scratch_cnn.py soundclf/eval_confusion.py $(RUNS)/02_transforms.ipynb
$(RUNS)/04_fastai_transfer.ipynb: soundclf/fastai_transfer.py soundclf/backbones.py soundclf/scratch_cnn.py soundclf/eval_confusion.py $(RUNS)/02_transforms.ipynb
$(RUNS)/05_optuna_tuning.ipynb: soundclf/optuna_tuning.py $(RUNS)/03_scratch_cnn.ipynb $(RUNS)/04_fastai_transfer.ipynb
$(RUNS)/06_eval_confusion.ipynb: $(RUNS)/05_optuna_tuning.ipynb
$(RUNS)/07_spoken_digits.ipynb: soundclf/spoken_digits.py soundclf/corpora.py $(RUNS)/06_eval_confusion.ipynb
$(RUNS)/08_waveform_cnn.ipynb: soundclf/waveform_cnn.py soundclf/corpora.py $(RUNS)/06_eval_confusion.ipynb
$(RUNS)/09_audio_tagging.ipynb: soundclf/audio_tagging.py soundclf/corpora.py $(RUNS)/06_eval_confusion.ipynb
$(RUNS)/10_tabular_baselines.ipynb: soundclf/tabular_baselines.py soundclf/feature_tables.py soundclf/tabular_models.py soundclf/tabular_search.py $(RUNS)/06_eval_confusion.ipynb
$(RUNS)/11_predict.ipynb: soundclf/predict.py $(RUNS)/06_eval_confusion.ipynb

reproduce: $(DONE) ## run every notebook end to end: figures and results.json
	@$(BIN)/python tests/report.py "$(DATASET)" "$(PROFILE)" "$(OUT)"

test: $(READY) ## clean and export checks, every notebook, pytest
	@echo "== notebooks are clean and exported"
	@$(BIN)/python tests/check_clean.py
	@echo "== the examples in every notebook (nbdev_test)"
	@SOUNDCLF_QUIET=1 $(BIN)/nbdev_test --path nbs --n_workers 1 --timing 2>&1 | cut -c1-300
	@echo "== pytest"
	@SOUNDCLF_QUIET=1 $(BIN)/python -m pytest -q tests

verify: $(READY) ## run the profile twice from nothing: same results.json, same weights
	@$(BIN)/python tests/verify.py "$(DATASET)" "$(PROFILE)" "$(SEED)"

bench: $(READY) ## speed and memory, as ratios against baselines measured in the same run
	@$(BIN)/python tests/bench.py "$(DATASET)"

readme: $(READY) ## README.md from nbs/index.ipynb
	@$(BIN)/python tests/readme.py write

app: $(READY) ## the app in a browser, for this machine only
	@$(BIN)/streamlit run app.py

screenshots: $(READY) ## pictures of the app on real data (needs Chromium)
	@$(BIN)/python tests/screenshots.py

lab: $(READY) ## JupyterLab on the notebooks
	@$(BIN)/jupyter lab nbs

tensorboard: $(READY) ## TensorBoard on all runs
	@$(BIN)/tensorboard --logdir runs

clean: ## remove runs (not data, not the environment)
	@rm -rf runs
