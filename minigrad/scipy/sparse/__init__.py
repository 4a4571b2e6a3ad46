"""Sparse matrices as constants: the classes of scipy.sparse, which from here can be multiplied with Tensors.

A = csr_array(A)                    # of any sparse matrix
A @ t, t @ A, A.T @ t               # and of the older classes, such as csr_matrix, A * t
"""

import functools
from typing import Any

import scipy.sparse

from minigrad.engine import Tensor
from minigrad.tables.primitive import primitive

product: Any = primitive(lambda g, ans, x, A: product(g, A=A.T))(lambda x, A: A @ x)


class Constant:
    """What the classes learn. Arrays and Tensors leave their operators to it."""

    __array_ufunc__ = None
    __matmul__ = lambda self, x: product(x, A=self) if isinstance(x, Tensor) else super().__matmul__(x)
    __rmatmul__ = lambda self, x: (self.T @ x.T).T if isinstance(x, Tensor) else super().__rmatmul__(x)
    __rmul__ = lambda self, x: (self.T * x.T).T if isinstance(x, Tensor) else super().__rmul__(x)
    transpose = lambda self, *args, **kwargs: learned(super().transpose(*args, **kwargs))

    def __mul__(self, x):
        if isinstance(x, Tensor) and not isinstance(self, scipy.sparse.spmatrix):
            raise NotImplementedError("no sparse array holds Tensors: write A @ t, or A.toarray() * t for each element")
        return self @ x if isinstance(x, Tensor) else super().__mul__(x)


@functools.cache
def teach(kind: Any) -> Any:
    return kind if issubclass(kind, Constant) else type(kind.__name__, (Constant, kind), {"__module__": __name__})


learned: Any = lambda matrix: teach(type(matrix))(matrix)


def __getattr__(name: str) -> Any:
    found = getattr(scipy.sparse, name)
    return teach(found) if isinstance(found, type) and name.endswith(("_array", "_matrix")) else found
