# Prometheus Mini: text in, a live KServe endpoint out. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.stamp

PROFILE ?= demo
BUNDLE ?= runs/latest/bundle
# Not ?=, or conda's and tcsh's own HOST would be taken; 0.0.0.0 is everyone.
HOST = 127.0.0.1
HTTP_PORT ?= 8080
GRPC_PORT ?= 8081
ROUNDS ?= 5
SOAK_SECONDS ?= 600

# Values go on as they were typed, quoted for the shell: $(call option,--test,TEST) is a --test=... for every TEST=... given.
# make would expand their dollars and drop their newlines, and knows only the last of `TEST=a TEST=b`: hence its own
# command line is read, or its environment. Elsewhere than on Linux the command line counts where something is repeated.
define option
$(shell given=() from=/proc/$$PPID/$(if $(filter environment,$(origin $(2))),environ,cmdline); \
while IFS= read -rd '' word; do [[ $$word != '$(2)='* ]] || given+=("$${word#*=}"); \
done < <(cat $$from 2>/dev/null || ps -o args= -p $$PPID | tr ' ' '\0'); \
[[ $$given && -r $$from || $${given[1]} ]] || given=('$(subst ','\'',$(value $(2)))'); \
for value in "$${given[@]}"; do [[ -z $$value ]] || printf ' %q' '$(1)='"$$value"; done)
endef
KNOWN := PROFILE CORPUS TEST SET BUNDLE HOST HTTP_PORT GRPC_PORT ROUNDS SOAK_SECONDS PYTHON
unexport $(filter-out PYTHON,$(KNOWN)) # else make expands them once more
# A variable of another name would be left aside without a word: `make pipeline-run CORPOS=x` would run the demo.
UNKNOWN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
UNKNOWN := $(firstword $(filter-out $(KNOWN) VENV SHELL MAKE% %TELEMETRY DO_NOT_TRACK,$(UNKNOWN)))
ifneq (,$(UNKNOWN))
$(error unknown variable $(UNKNOWN); $(shell python3 -c 'import difflib, sys; name, *known = sys.argv[1:]; \
print(*(f"did you mean {near}? " for near in difflib.get_close_matches(name.upper(), known, 1)), end="")' \
	'$(subst ','\'',$(UNKNOWN))' $(KNOWN))known: $(KNOWN))
endif
# Nothing is reported to the makers of libraries (model/environment.py).
export ORT_DISABLE_TELEMETRY ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export DO_NOT_TRACK ?= 1

.PHONY: help setup pipeline-run pipeline-compile serve bench-serving soak test lint types lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

setup: $(STAMP) ## make .venv from requirements/all.lock

$(STAMP): requirements/all.lock
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null || \
		{ echo "Python 3.11 or 3.12 is needed, found: $$('$(PYTHON)' --version 2>&1); try make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing the exact versions of requirements/all.lock into $(VENV) (once, some minutes)"
	@'$(PYTHON)' -m venv $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check -r requirements/all.lock
	@touch $@

# Environments of their own: other engines (bench), other people's clients (clients), what makes the demo's text (phrasebook).
.venv-%/.stamp: requirements/%.lock
	@echo "installing the exact versions of $< into .venv-$* (once, up to some minutes)"
	@'$(PYTHON)' -m venv .venv-$*
	@.venv-$*/bin/python -m pip install -qq --disable-pip-version-check -r $<
	@touch $@

pipeline-run: $(STAMP) ## text to a published model: PROFILE=demo CORPUS=file TEST=file SET=training.steps=50, all repeatable
	@$(PY) -m pipelines.run $(call option,--profile,PROFILE) $(call option,--corpus,CORPUS) \
		$(call option,--test,TEST) $(call option,--set,SET)

pipeline-compile: $(STAMP) ## write build/pipeline.yaml for Kubeflow
	@$(PY) -m pipelines.compile

serve: $(STAMP) ## serve a bundle: BUNDLE=runs/latest/bundle HOST=127.0.0.1 HTTP_PORT=8080 GRPC_PORT=8081
	@exec $(PY) -m serving $(call option,--bundle,BUNDLE) $(call option,--host,HOST) \
		$(call option,--http_port,HTTP_PORT) $(call option,--grpc_port,GRPC_PORT)

bench-serving: $(STAMP) .venv-bench/.stamp ## our engine beside CTranslate2, onnxruntime-genai, Hugging Face, PyTorch: ROUNDS=5
	@$(PY) -m benchmarks.serving $(call option,--rounds,ROUNDS)

soak: $(STAMP) ## 128 clients on the real server for ten minutes: BUNDLE=runs/latest/bundle SOAK_SECONDS=600
	@$(PY) -m benchmarks.load.soak $(call option,--bundle,BUNDLE) $(call option,--seconds,SOAK_SECONDS)

test: lint types .venv-clients/.stamp .venv-phrasebook/.stamp ## lint, types and every test
	@$(PY) -m pytest -q

lint: $(STAMP) ## ruff: style and formatting
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(STAMP) ## mypy
	@$(PY) -m mypy

lock: $(STAMP) ## resolve requirements/*.in into the .lock files
	@$(PY) requirements/lock.py

clean: ## remove what can be made again, runs/ and .venv excepted
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)*' -prune -exec rm -rf {} +
