"""
The machinery that every controller stands on: API access, caches, queues, leadership, probes.

Nothing in this package knows a kind of Solera. It could carry another operator.
"""
