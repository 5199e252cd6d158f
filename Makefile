# Two commands, each complete on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types docs wheel clean

demo: $(VENV)/.installed
	$(BIN)/medmol demo -o demo

# Two processes, each with whole files, so that what a file shares is made once.
test: lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

# Warnings are errors, and the tutorial notebooks are run; tests/docs/test_site.py does it, too.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/python -m mkdocs build

# dist/: the sdist, and the wheel that is made from it, by the constrained setuptools.
wheel: $(VENV)/.installed
	rm -rf build dist
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m build

# pip's wheel cache and the stamp make a second call a matter of a second.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('Python 3.11 or newer is needed: make PYTHON=python3.12 ...')"
	@echo "Installing into $(VENV): about four minutes the first time, with torch, monai and rdkit"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) demo site build dist *.egg-info
