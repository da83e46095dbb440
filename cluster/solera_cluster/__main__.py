"""`python3 -m solera_cluster`."""

import sys

from solera_cluster.cli import main

sys.exit(main())
