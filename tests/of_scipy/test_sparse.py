"""Sparse matrices as constants: products and solutions, in every class of SciPy's."""

import numpy as np
import pytest
from profiles import scale

import minigrad as mg
from minigrad.testing.rule import check_call

scipy_sparse = pytest.importorskip("scipy.sparse")
sparse, solver = pytest.importorskip("minigrad.scipy.sparse"), pytest.importorskip("minigrad.scipy.sparse.linalg")

rng = np.random.default_rng(0)
DENSE = rng.normal(size=(4, 3)) * (rng.uniform(size=(4, 3)) < 0.6)
NAMES = [f"{form}_{kind}" for kind in ("array", "matrix") for form in "bsr coo csc csr dia dok lil".split()]  # noqa: SIM905


@pytest.mark.parametrize("name", NAMES)
def test_products(name: str) -> None:
    a = getattr(sparse, name)(scipy_sparse.csr_array(DENSE))
    assert isinstance(a, getattr(scipy_sparse, name))
    for x in (rng.normal(size=3), rng.normal(size=(3, 2))):
        np.testing.assert_allclose((a @ mg.Tensor(x)).data, DENSE @ x)
        np.testing.assert_allclose(a @ x, DENSE @ x)
        check_call(lambda x: a @ x, [x], order=scale(1, 2))
    for x in (rng.normal(size=4), rng.normal(size=(2, 4))):
        np.testing.assert_allclose((mg.Tensor(x) @ a).data, x @ DENSE)
        np.testing.assert_allclose(x @ a, x @ DENSE)
        check_call(lambda x: x @ a, [x], order=scale(1, 2))
    check_call(lambda x: a.T @ x, [rng.normal(size=4)], order=scale(1, 2))
    x = mg.Tensor(rng.normal(size=3), requires_grad=True)
    if name.endswith("matrix"):
        np.testing.assert_allclose((a * x).data, DENSE @ x.data)
        np.testing.assert_allclose((mg.Tensor(np.ones(4)) * a).data, DENSE.sum(0))
    else:
        with pytest.raises(NotImplementedError, match=r"write A @ t, or A\.toarray\(\) \* t"):
            a * x
        with pytest.raises(NotImplementedError, match="no sparse array holds Tensors"):
            x * a
    np.testing.assert_allclose((a * 2).toarray(), 2 * DENSE)


@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix"])
@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 2)])
def test_solutions(kind: str, shape: tuple[int, ...]) -> None:
    square = DENSE @ DENSE.T + 3 * np.eye(4) + np.diag([1.0, 0, 2], 1)
    b = rng.normal(size=shape)
    a = getattr(scipy_sparse, kind)(square)
    solve = lambda b: solver.spsolve(a, b, permc_spec="NATURAL").reshape(shape)
    np.testing.assert_allclose(solve(mg.Tensor(b)).data, np.linalg.solve(square, b))
    check_call(solve, [b])


def test_a_plain_matrix_of_scipy_refuses_a_tensor() -> None:
    with pytest.raises(TypeError, match="would lose its history"):
        scipy_sparse.csr_array(DENSE) @ mg.Tensor(np.ones(3), requires_grad=True)
