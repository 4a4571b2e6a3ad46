"""The tables: what the derivatives of NumPy's functions are. Importing this fills those of the engine.

rules             one line a function, one rule an argument
composites        functions that others can spell, which need no rule
rearrangements    those of them that only move, repeat, drop or choose numbers
linalg            products of arrays, and numpy.linalg
constants         functions without a derivative
"""

from minigrad.tables import composites, constants, fourier, linalg, rearrangements, rules

__all__ = ["composites", "constants", "fourier", "linalg", "rearrangements", "rules"]
