# Each target is one of make.py; without make: python3 make.py TARGET
PYTHON ?= python3
TARGETS := help run test compiled run-compiled test-compiled check coverage docs wheels bench peers load long faults faults-long simulation money mutants schemathesis overload streams soak page-soak lock audit sbom

.PHONY: $(TARGETS)
$(TARGETS):
	@$(PYTHON) make.py $@
