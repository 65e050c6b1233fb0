# Prometheus Mini: text in, a live KServe endpoint out. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.stamp

# What a run published last, or `make promote` made live since.
BUNDLE ?= runs/live/bundle
NOTHING_LIVE := nothing is live yet: make pipeline-run makes a model, make versions lists those that are there, \
	and make promote RUN=... makes one of them live
# Not ?=, or conda's and tcsh's own HOST would be taken; 0.0.0.0 is everyone.
HOST = 127.0.0.1
# Nor these, which are words that an environment may use for something else.
FILE =
FOLDER =
TO =
FROM =
OUT =
FIELD =
GLOSSARY =
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
KNOWN := PROFILE CORPUS TEST SET INIT_FROM RESUME RUNS RUNNER VARIANT MACHINE PUBLISH RELEASE EXPERIMENT EVERY BUNDLE HISTORY RUN STORE \
	SERVICE HOST FILE FOLDER TO FROM OUT FIELD GLOSSARY HTTP_PORT GRPC_PORT ROUNDS SOAK_SECONDS REGISTRY BASE_IMAGE TORCH_INDEX LOAD \
	KUBEFLOW PROMETHEUS PYTHON
unexport $(filter-out PYTHON LOAD KUBEFLOW PROMETHEUS REGISTRY BASE_IMAGE,$(KNOWN)) # else make expands them once more
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
export MLFLOW_DISABLE_TELEMETRY ?= 1
export DO_NOT_TRACK ?= 1

.PHONY: help setup images pipeline-run pipeline-compile pipeline-submit runs compare serve chat translate promote rollback \
	versions bench-serving soak gpu-check cluster cluster-install cluster-test test lint types lock clean

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

# Environments of their own: other engines (bench), other people's clients (clients), a tracker's server (mlflow), what makes
# the demo's text (phrasebook).
.venv-%/.stamp: requirements/%.lock
	@echo "installing the exact versions of $< into .venv-$* (once, up to some minutes)"
	@'$(PYTHON)' -m venv .venv-$*
	@.venv-$*/bin/python -m pip install -qq --disable-pip-version-check -r $<
	@touch $@

pipeline-run: $(STAMP) ## text to a published model: PROFILE=demo CORPUS=file TEST=file SET=training.steps=50, all repeatable; RESUME=latest goes on, INIT_FROM=run begins with its weights
	@$(PY) -m pipelines.run $(call option,--profile,PROFILE) $(call option,--corpus,CORPUS) \
		$(call option,--test,TEST) $(call option,--set,SET) $(call option,--init_from,INIT_FROM) \
		$(call option,--resume,RESUME) $(call option,--runner,RUNNER) $(call option,--variant,VARIANT) $(call option,--machine,MACHINE) $(call option,--publish_to,PUBLISH)

runs: $(STAMP) ## list the runs: how each ended, its scores, its time
	@$(PY) -m pipelines.runs

compare: $(STAMP) ## write build/compare.html, where runs are held against each other: RUNS="live latest"
	@$(PY) -m pipelines.compare $(subst --run=,,$(call option,--run,RUNS))

pipeline-compile: $(STAMP) ## write build/pipeline.yaml for Kubeflow: PROFILE=small CORPUS=s3://... PUBLISH=s3://bucket/prefix
	@$(PY) -m pipelines.compile $(call option,--profile,PROFILE) $(call option,--corpus,CORPUS) \
		$(call option,--test,TEST) $(call option,--set,SET) $(call option,--init_from,INIT_FROM) \
		$(call option,--publish_to,PUBLISH)

images: $(STAMP) ## the steps' and the predictor's image: VARIANT=cpu|gpu REGISTRY=host BASE_IMAGE=image TORCH_INDEX=url
	@$(PY) -m pipelines.images $(call option,--variant,VARIANT) $(call option,--registry,REGISTRY) \
		$(call option,--base_image,BASE_IMAGE) $(call option,--torch_index,TORCH_INDEX)

# Its HOST is Kubeflow's address, and has no default here.
pipeline-submit: $(STAMP) ## the same on Kubeflow: HOST=https://kubeflow.example PUBLISH=s3://bucket/prefix RELEASE=namespace/name EXPERIMENT=name EVERY='0 2 * * *'
	@$(PY) -m pipelines.submit $(call option,--profile,PROFILE) $(call option,--corpus,CORPUS) \
		$(call option,--test,TEST) $(call option,--set,SET) $(call option,--init_from,INIT_FROM) \
		$(call option,--publish_to,PUBLISH) $(call option,--release_to,RELEASE) \
		$(call option,--experiment,EXPERIMENT) $(call option,--every,EVERY) \
		$(if $(filter command,$(origin HOST)),$(call option,--host,HOST))

serve: $(STAMP) ## serve what is live: BUNDLE=runs/live/bundle HOST=127.0.0.1 HTTP_PORT=8080 GRPC_PORT=8081
	@$(if $(filter file,$(origin BUNDLE)),[ -d $(BUNDLE) ] || { echo "$(NOTHING_LIVE)" >&2; exit 2; })
	@exec $(PY) -m serving $(call option,--bundle,BUNDLE) $(call option,--host,HOST) \
		$(call option,--http_port,HTTP_PORT) $(call option,--grpc_port,GRPC_PORT)

chat: $(STAMP) ## talk to what is live in this terminal: BUNDLE=runs/live/bundle HISTORY=none
	@$(if $(filter file,$(origin BUNDLE)),[ -d $(BUNDLE) ] || { echo "$(NOTHING_LIVE)" >&2; exit 2; })
	@exec $(PY) -m serving.chat $(call option,--bundle,BUNDLE) $(call option,--history,HISTORY)

translate: $(STAMP) ## translate a file, or standard input line by line: FILE=letter.txt TO=en FROM=auto OUT=file FIELD=2 GLOSSARY=file
	@$(if $(filter file,$(origin BUNDLE)),[ -d $(BUNDLE) ] || { echo "$(NOTHING_LIVE)" >&2; exit 2; })
	@exec $(PY) -m serving.translate $(call option,--bundle,BUNDLE) $(call option,--to,TO) $(call option,--from,FROM) \
		$(call option,--file,FILE) $(call option,--out,OUT) $(call option,--field,FIELD) \
		$(call option,--glossary,GLOSSARY)

promote: $(STAMP) ## make a version live: RUN=run, on a cluster STORE=s3://... SERVICE=namespace/name PROMETHEUS=http://...
	@$(PY) -m release to $(subst --run=,,$(call option,--run,RUN)) $(call option,--store,STORE) \
		$(call option,--service,SERVICE) $(call option,--prometheus,PROMETHEUS)

rollback: $(STAMP) ## go back to the version that was live before: STORE=runs, on a cluster SERVICE=namespace/name
	@$(PY) -m release back $(call option,--store,STORE) $(call option,--service,SERVICE)

versions: $(STAMP) ## list what is published, and what of it is live: STORE=runs, on a cluster SERVICE=namespace/name
	@$(PY) -m release versions $(call option,--store,STORE) $(call option,--service,SERVICE)

bench-serving: $(STAMP) .venv-bench/.stamp ## our engine beside CTranslate2, onnxruntime-genai, Hugging Face, PyTorch: ROUNDS=5
	@$(PY) -m benchmarks.serving $(call option,--rounds,ROUNDS)

soak: $(STAMP) ## 128 clients on the real server for ten minutes: BUNDLE=runs/latest/bundle SOAK_SECONDS=600
	@$(PY) -m benchmarks.load.soak $(call option,--bundle,BUNDLE) $(call option,--seconds,SOAK_SECONDS)

gpu-check: $(STAMP) ## all that needs a GPU, in nine minutes: FOLDER=folder made by python -m benchmarks.gpu prepare
	@$(PY) -m benchmarks.gpu check $(subst --folder=,,$(call option,--folder,FOLDER))

cluster: ## a cluster of one's own by kind, with all that cluster-test needs (Linux, Docker): KUBEFLOW=1 adds Pipelines
	@tools/cluster/kind.sh

cluster-install: ## what the cluster of KUBECONFIG lacks: KServe, Gateway API, KEDA, Prometheus; KUBEFLOW=1 adds Pipelines
	@tools/cluster/install.sh

cluster-test: $(STAMP) ## the service on the cluster of KUBECONFIG: LOAD='kind load docker-image'
	@PROMETHEUS_CLUSTER=1 $(PY) -m pytest -v tests/cluster

test: lint types .venv-clients/.stamp .venv-mlflow/.stamp .venv-phrasebook/.stamp ## lint, types and every test
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
