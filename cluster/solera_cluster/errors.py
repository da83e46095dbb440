"""The one exception that a person is meant to read."""


class ClusterError(Exception):
    """Something is wrong that the user can put right; the text says what it is and what to do."""
