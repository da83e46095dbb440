"""``python -m solera_operator``."""

from solera_operator.main import main

main()
