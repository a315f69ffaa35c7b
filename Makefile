PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
export OMP_NUM_THREADS ?= 1

.PHONY: check test docs audit clean

check:  ## what every change must pass
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not slow and not real_data"

test:  ## the whole suite
	$(PYTHON) -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=15

docs:  ## documents, shipped YAML files and scripts say what the code does
	$(PYTHON) -m pytest -q tests/unit/test_project.py tests/unit/test_documents.py tests/end_to_end/test_documents.py

audit:  ## known vulnerabilities of the tested versions; needs pip install pip-audit, and the network
	$(PYTHON) -m pip_audit --strict --no-deps --disable-pip --requirement constraints.txt

clean:  ## caches only: data and runs stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist ./*.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
