import sys
from pathlib import Path

# The tables of manifests are shared with the API server's tests.
sys.path.insert(0, str(Path(__file__).parents[2] / "api"))
