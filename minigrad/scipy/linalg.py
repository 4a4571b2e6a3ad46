"""Functions of scipy.linalg that numpy.linalg does not have, each a primitive.

Formulas: M. Giles, Collected matrix derivative results, 2008 (solutions); I. Najfeld and T. Havel, Derivatives of the
matrix exponential, 1995 (expm: a corner of the exponential of a matrix of blocks).
"""

from typing import Any

import numpy as np
import scipy.linalg
from scipy.linalg import *  # noqa: F403

from minigrad.engine import as_array
from minigrad.tables.primitive import primitive
from minigrad.tables.rules import flipped


def by_triangular(g, ans, a, b, trans, lower, unit_diagonal):
    by_b = triangular(a, g, trans=1 - trans, lower=lower, unit_diagonal=unit_diagonal)
    by_a = -ans @ flipped(by_b) if trans else -by_b @ flipped(ans)
    return (np.tril if lower else np.triu)(by_a, (-1 if lower else 1) * unit_diagonal), by_b


triangular: Any = primitive(joint=by_triangular)(scipy.linalg.solve_triangular)


def solve_triangular(a, b, trans=0, lower=False, unit_diagonal=False, overwrite_b=False, check_finite=True):
    """The solution of a @ x = b, or with `trans` of a.T @ x = b, where of `a` one triangle alone is read."""
    trans, a = {"N": 0, "T": 1, "C": 2}.get(trans, trans), np.conj(a) if trans in (2, "C") else a
    options = {"trans": int(trans > 0), "lower": bool(lower), "unit_diagonal": bool(unit_diagonal)}
    a, b = as_array(a), as_array(b)
    return triangular(a, b[:, None], **options)[:, 0] if b.ndim == 1 else triangular(a, b, **options)


def cho_solve(c_and_lower, b, overwrite_b=False, check_finite=True):
    c, lower = c_and_lower
    first, second = (0, 2) if lower else (2, 0)
    return solve_triangular(c, solve_triangular(c, b, first, lower), second, lower)


def by_expm(g, ans, a):
    n, up = a.shape[-1], flipped(a)
    rows = [np.concatenate(row, -1) for row in ([up, g], [np.zeros_like(g), up])]
    return expm(np.concatenate(rows, -2))[..., :n, n:]


def by_sylvester(g, ans, a, b, q):
    by_q = solve_sylvester(flipped(a), flipped(b), g)
    return -by_q @ flipped(ans), -flipped(ans) @ by_q, by_q


expm = primitive(by_expm)(scipy.linalg.expm)
sqrtm = primitive(lambda g, ans, a: solve_sylvester(flipped(ans), flipped(ans), g))(scipy.linalg.sqrtm)
solve_sylvester: Any = primitive(joint=by_sylvester)(scipy.linalg.solve_sylvester)
