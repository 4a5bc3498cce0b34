# Needs only python3 (3.10 or newer), git and make; everything else goes into .venv.

PYTHON ?= python3
GALLERY ?= gallery
SITE := docs/_build/html
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo looks viewer-types pictures gallery-graphs docs test test-fast fuzz soak size lint types clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    draw the worked examples into $(GALLERY)/"
	@echo "make test    run the tests"
	@echo "make test-fast  run the tests that start no process"
	@echo "make fuzz    check what is said of random programs (COUNT=2000 SEED=0)"
	@echo "make soak    10,000 draws and 2,000 recordings: nothing may grow"
	@echo "make size    count files and lines of each place in gradviz/"
	@echo "make looks   contact sheets of the examples into looks/, light and dark, at 3 widths"
	@echo "make viewer-types  check the types of the viewer's modules (needs npx)"
	@echo "make pictures  draw the pictures of README.md again"
	@echo "make docs    build the site into $(SITE)/, and check it"
	@echo "make gallery-graphs  run the real models of the site again (needs transformers)"
	@echo "make lint    check style (ruff)"
	@echo "make types   check types (mypy)"
	@echo "make clean   remove .venv, $(GALLERY)/ and what was built"
	@echo "Each sets up .venv first; PYTHON=python3.12 chooses the Python for it."

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "gradviz needs Python 3.10 or newer, and $(PYTHON) is" \
	    "$$($(PYTHON) -V 2>&1 | tail -n 1); name another one: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@echo "setting up .venv (with torch: some minutes the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# The types in the comments of the viewer's modules; npx comes with Node, which users do not need.
viewer-types:
	npx --yes --package typescript@7.0.2 tsc -p gradviz/viewer

# The pictures of README.md, by the layout that is the same on every machine.
pictures: $(READY)
	GRADVIZ_ENGINE=layered $(BIN)/gradviz draw -q examples/two_layer_network.py:loss \
	  -o docs/pictures/network.svg >/dev/null
	GRADVIZ_ENGINE=layered $(BIN)/gradviz draw -q examples/repeated_backward.py:adding \
	  -o docs/pictures/accumulation.svg >/dev/null
	GRADVIZ_ENGINE=layered $(BIN)/gradviz draw -q examples/first_backward.py:loss \
	  -o docs/pictures/loss.svg >/dev/null
	GRADVIZ_ENGINE=layered $(BIN)/gradviz draw -q docs/pictures/transformer.py:loss --depth 3 \
	  --color-by grad_norm -o docs/pictures/transformer.svg >/dev/null
	cd examples && GRADVIZ_ENGINE=layered ../$(BIN)/gradviz draw -q five_ways.py:story \
	  -o ../docs/pictures/five_ways.svg >/dev/null

# The site shows the graphs of real models, saved as JSON: building it needs none of the models.
MODELS := resnet50 bert-base gpt2 llama-small t5-small vit lstm-1000 unet mixture neural-ode maml-1
gallery-graphs: $(READY)
	GRADVIZ_ENGINE=layered $(BIN)/python benchmarks/models.py --save docs/gallery --as json \
	  --only $(MODELS)

docs: $(READY)
	$(BIN)/python -m sphinx -q -W --keep-going -n -b html docs $(SITE)
	$(BIN)/python docs/check.py $(SITE)

looks: $(READY)
	$(BIN)/python benchmarks/looks.py --sheets looks

demo: $(READY)
	@$(BIN)/gradviz gallery $(GALLERY)

# Tests marked "tool" and "latex" need programs that pip does not install. Where one is missing
# they are left out, and said to be.
missing = $(foreach tool,$(1),$(if $(shell command -v $(tool) 2>/dev/null),,$(tool)))
NO_TOOL := $(strip $(call missing,dot chromium))
NO_LATEX := $(strip $(call missing,pdflatex pdftotext))
LEFT_OUT := $(if $(NO_TOOL),tool) $(if $(NO_LATEX),latex)

test: $(READY)
ifneq ($(NO_TOOL),)
	@echo "not installed: $(NO_TOOL); the tests marked 'tool' are left out"
endif
ifneq ($(NO_LATEX),)
	@echo "not installed: $(NO_LATEX); the tests marked 'latex' are left out"
endif
	$(BIN)/python -m pytest -n 2 \
	  $(if $(strip $(LEFT_OUT)),-m "not ($(firstword $(LEFT_OUT)) or $(lastword $(LEFT_OUT)))") $(ARGS)

test-fast: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not (process or tool or latex)" \
	  $(addprefix --ignore=tests/test_,big.py deep.py docs.py course.py collector.py) tests $(ARGS)

COUNT ?= 2000
SEED ?= 0
fuzz: $(READY)
	$(BIN)/python tests/fuzz.py --count $(COUNT) --seed $(SEED)

soak: $(READY)
	$(BIN)/python tests/soak.py

size:
	@$(PYTHON) tests/house.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

clean:
	rm -rf .venv $(GALLERY) docs/_build build dist gradviz.egg-info
