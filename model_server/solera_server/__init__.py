"""Solera's model server: the Open Inference Protocol over a lean HTTP layer."""

__version__ = "0.1.0"
