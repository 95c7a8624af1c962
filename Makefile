# make demo    the whole way of a photograph, on this machine
# make test    the tests
# make check   what CI asks of a change: format, lint, types, layers, tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
REQUIREMENTS := pyproject.toml constraints.txt
DATA := $(or $(ANOSKIN_DATA),../shared)

export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo test lint check format bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/installed-demo ## Show the whole way of a photograph; results in demo-output/
	$(BIN)/gateway demo --out demo-output

test: $(VENV)/installed-test peers ## Run the tests
	$(BIN)/python -m pytest

lint: $(VENV)/installed-check ## Check format, style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## Everything that CI asks of a change

format: $(VENV)/installed-check ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed-bench peers ## Measure what docs/performance.md reports
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/scrub.py
	@if [ -d "$(DATA)/data/dicom" ]; then $(BIN)/python benchmarks/files.py --data "$(DATA)/data/dicom"; fi
	@if [ -d "$(DATA)" ]; then mkdir -p build; \
	  $(BIN)/python benchmarks/held_back.py --data "$(DATA)" --out build/held-back.json; \
	  $(BIN)/python benchmarks/close_ups.py --data "$(DATA)" --out build/close-ups.json; \
	  $(BIN)/python benchmarks/controls.py --data "$(DATA)" --out build/controls.json; \
	else echo "No portraits at $(DATA) (ANOSKIN_DATA): the bundle is not measured."; fi

clean: ## Remove the environment and what was built; state/ and demo-output/ stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# One environment; each stamp says that at least this extra is in it. A larger extra contains the smaller ones.
$(VENV)/installed-check: $(REQUIREMENTS) | $(VENV)/bin/python
	$(call install,check)
	@touch $(VENV)/installed-demo $(VENV)/installed-test $@

$(VENV)/installed-test: $(REQUIREMENTS) | $(VENV)/bin/python
	$(call install,test)
	@touch $(VENV)/installed-demo $@

$(VENV)/installed-bench: $(REQUIREMENTS) | $(VENV)/bin/python
	$(call install,bench)
	@touch $(VENV)/installed-demo $(VENV)/installed-test $@

$(VENV)/installed-demo: $(REQUIREMENTS) | $(VENV)/bin/python
	$(call install,demo)
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; say which one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { echo "$(PYTHON) cannot make environments; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "Creating $(VENV) …"
	@$(PYTHON) -m venv $(VENV)

# Tests start the Triton server that this wheel carries. Its own requirements belong to Python code that is not used
# here and do not go with the rest, so they are left out. There is none for other systems than Linux on x86-64.
TRITON := nvidia-pytriton

# opencv-python wants libGL from the system; where that is missing, the headless build's files go on top of it.
define install
	@echo "Installing the extra [$(1)] into $(VENV); PyTorch is large, the first time takes minutes …"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[$(1)]'
	@$(BIN)/python -c 'import cv2' 2>/dev/null || { echo "No libGL here: taking OpenCV without it …"; \
	  $(PIP) install --quiet --force-reinstall --no-deps --constraint constraints.txt opencv-python-headless && \
	  $(BIN)/python -c 'import cv2'; }
	@$(if $(filter test check bench,$(1)),$(PIP) install --quiet --no-deps --constraint constraints.txt $(TRITON) \
	  || echo "No Triton server for this system: tests that ask one are skipped.")
	@echo "Installed."
endef

.PHONY: peers
peers:
	@for program in storescu storescp dcmdump Orthanc tesseract; do \
	  PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v $$program >/dev/null || missing="$$missing $$program"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "Not installed:$$missing. Tests with real peers are skipped; on Debian: apt-get install dcmtk orthanc tesseract-ocr"; \
	fi
