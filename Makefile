PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/default
EXTRA := pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

# What `make run` trains on: tokens of plays, tokens of stories, labelled stories, conversations.
PLAYS := 120_000
STORIES := 2_100_000
ROWS := 1500
CONVERSATIONS := 3000
COST := all of the training; QUICK=1 does a quarter of it
ifdef QUICK
PLAYS := 30_000
STORIES := 525_000
ROWS := 400
CONVERSATIONS := 750
COST := QUICK: a quarter of the training, so the models answer markedly fewer questions
endif

.DEFAULT_GOAL := help
.PHONY: help run serve test lab notebooks lint clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: .venv/.installed ## every chapter in order, then the report card $(RUN)/report.html (QUICK=1: a quarter of the training)
	@echo "$(COST)"
	$(BIN)/python ch01_text/main.py --run $(RUN)
	$(BIN)/python ch02_attention/main.py --run $(RUN)
	$(BIN)/python ch03_gpt/main.py --run $(RUN)
	$(BIN)/python ch04_pretraining/main.py --run $(RUN)/shakespeare --data shakespeare --tokenizer $(RUN)/ch01_text \
		--tokens $(PLAYS)
	$(BIN)/python ch04_pretraining/main.py --run $(RUN) --data storyworld --tokens $(STORIES)
	$(BIN)/python ch05_classification/main.py --run $(RUN) --task ending --epochs 1 --train-rows $(ROWS)
	$(BIN)/python ch06_instruction/main.py --run $(RUN) --stage sft --conversations $(CONVERSATIONS) --questions 300
	$(BIN)/python ch07_practice/main.py scaling --run $(RUN) --data shakespeare --widths 16 32 64 \
		--budgets 40_000 80_000 160_000 --target-width 96 --target-tokens 320_000
	$(BIN)/python ch07_practice/main.py report --run $(RUN)

serve: .venv/.installed-serve ## chat with the run's models in the browser
	$(BIN)/python ch07_practice/main.py serve --run $(RUN)

test: .venv/.installed-test ## all tests (fast ones only: make test ARGS='-m "not slow"')
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

lab: .venv/.installed-notebook ## JupyterLab on the notebooks
	$(BIN)/jupyter lab

notebooks: .venv/.installed-notebook ## execute every notebook in place
	@for notebook in $$(ls */*.ipynb 2>/dev/null); do $(BIN)/jupyter execute --inplace $$notebook || exit 1; done

lint: .venv/.installed-test ## check the code's style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove the environment, results and caches
	rm -rf .venv runs build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/$(EXTRA) .
	@touch $@

.venv/.installed-%: .venv/.installed
	$(BIN)/$(EXTRA) ".[$*]"
	@touch $@
