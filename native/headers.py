"""Exit with 1 unless this Python has the header that extensions are compiled with."""

import sys
import sysconfig
from pathlib import Path

sys.exit(not Path(sysconfig.get_path("include"), "Python.h").is_file())
