"""A real Kubernetes cluster on one Linux machine, built from package registries and run as plain processes.

Uses nothing but the standard library, because it runs before any environment exists.
"""
