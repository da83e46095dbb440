"""Decisions on frozen values and a clock: no I/O, no Kubernetes client, no waiting."""
