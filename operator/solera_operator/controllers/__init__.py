"""The controllers: observe by caches, decide by the domain, build by resources, write by the engine."""
