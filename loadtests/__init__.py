"""Load tests and benchmarks: `locustfile.py` (scenarios), `bench.py` (figures, against `baseline.py`)."""
