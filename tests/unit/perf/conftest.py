"""The benchmarks' code is found where `make bench-…` finds it."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS / "perf"), str(TESTS)]
