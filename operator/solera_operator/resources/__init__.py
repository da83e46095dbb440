"""Builders of the objects that Solera owns: frozen values in, plain dicts out, no I/O.

A builder's result depends on its arguments alone (no clock, no randomness, no unordered hashing), so an
unchanged model gives an unchanged object and nothing is written. Labels and annotations of a parent are
never copied to its children.
"""
