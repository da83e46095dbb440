import sys

from solera_server.cli import main

sys.exit(main())
