"""Solutions of sparse systems, where the matrix is constant."""

from typing import Any

import scipy.sparse.linalg
from scipy.sparse.linalg import *  # noqa: F403

from minigrad.tables.primitive import primitive

solution: Any = primitive(lambda g, ans, b, A, **options: solution(g, A=A.T, **options).reshape(b.shape))(
    lambda b, A, **options: scipy.sparse.linalg.spsolve(A, b, **options)
)
spsolve = lambda A, b, permc_spec=None, use_umfpack=True: solution(
    b, A=A, permc_spec=permc_spec, use_umfpack=use_umfpack
)
