"""Solutions of sparse systems, where the matrix is constant."""

import scipy.sparse.linalg
from scipy.sparse.linalg import *  # noqa: F403

from minigrad.tables.primitive import primitive


@primitive(lambda g, ans, b, A, options: solution(g, A=A.T, options=options).reshape(b.shape))
def solution(b, A, options):
    return scipy.sparse.linalg.spsolve(A, b, **options)


def spsolve(A, b, permc_spec=None, use_umfpack=True):
    return solution(b, A=A, options={"permc_spec": permc_spec, "use_umfpack": use_umfpack})
