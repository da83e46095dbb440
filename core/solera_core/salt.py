"""The salt of a model's split: the operator makes it, the trainer uses it."""

import hashlib


def split_salt(model: str, seed: int) -> str:
    """Return 64 hex digits: the same on a laptop and in a cluster, for the model's life."""
    return hashlib.sha256(f"{model}:{seed}".encode()).hexdigest()
