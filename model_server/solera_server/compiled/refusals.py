"""What compiling and predicting may refuse."""

from __future__ import annotations


class NotCompilable(Exception):  # noqa: N818 - says what the model is
    """The model has something that only scikit-learn itself can compute; the message names it."""


class Refused(ValueError):  # noqa: N818 - says what happened to the input
    """A value that scikit-learn would refuse with a ValueError: missing, infinite, or beyond float32."""

    certain = False
    """Whether the message says what is wrong; otherwise the batch tells more."""


class UnseenCategory(Refused):
    """A category that was not in the training data, where the model takes no others."""

    certain = True
