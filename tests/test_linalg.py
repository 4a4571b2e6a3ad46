"""Products and numpy.linalg: values, first and second derivatives, stacks of matrices, and where they are singular."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Case, arguments, case, check, rows_of
from hypothesis import given, reject
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

import minigrad as mg
from minigrad.engine import composites, name_of, vjps
from minigrad.tables.linalg import beside, joined, least_squares
from minigrad.testing import check_grads

# ----------------------------------------------------------------------------------- the arguments: matrices of a kind


def regular(x: Any) -> Any:
    """A matrix far from singular, with singular values far from each other."""
    m, n = x.shape[-2:]
    return x + np.diag(np.arange(5, 5 + 5 * max(m, n), 5))[:m, :n].astype(x.dtype)


def positive(x: Any) -> Any:
    """A symmetric positive definite matrix, with eigenvalues far from each other."""
    x = regular(x)
    return x @ np.swapaxes(x, -1, -2)


def of(kind: Callable[..., Any], function: Callable[..., Any], *shapes: Any, **keywords: Any) -> Case:
    """A case of a function whose first argument is of a kind, and others as they come."""
    return case(lambda x, *others: function(kind(x), *others, **keywords), *shapes)


def each(
    kind: Callable[..., Any], function: Callable[..., Any], count: int, *shapes: Any, **keywords: Any
) -> list[Case]:
    """Cases of each of the answers of a function, and one of all together."""
    rows = [of(kind, lambda x, i=i: function(x, **keywords)[i], shape) for i in range(count) for shape in shapes]
    together = lambda x: sum(np.sum(np.sin(answer)) for answer in function(x, **keywords))
    return rows + [of(kind, together, shape) for shape in shapes]


def spectrum(x: Any) -> Any:
    """Eigenvalues, and what of their vectors does not depend on phases."""
    values, vectors = np.linalg.eig(x)
    return np.concatenate([values[..., None, :], np.abs(vectors) ** 2], -2)


SQUARES = [(3, 3), (2, 2, 2), (1, 1), (0, 2, 2), (0, 0)]
TALL = [(3, 2), (2, 2, 1), (3, 1)]
WIDE = [(2, 3), (2, 1, 2), (1, 3)]
SUBSCRIPTS = [  # operands may have axes of length 1 that are stretched
    ("ij,jk->ik", (2, 3), (3, 2)),
    ("ij,jk", (2, 3), (3, 2)),
    ("ba", (2, 3)),
    ("ij->", (2, 3)),
    ("ij->j", (2, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->ij", (2, 2, 3)),
    ("iij->j", (2, 2, 3)),
    ("iii->i", (2, 2, 2)),
    ("ii,i->i", (2, 2), (2,)),
    ("ij,ij->", (2, 3), (2, 3)),
    ("ij,ij", (1, 3), (2, 3)),
    ("i,j->ij", (2,), (3,)),
    ("i,j,k->ikj", (2,), (3,), (2,)),
    ("ij,jk,kl->il", (2, 3), (3, 2), (2, 2)),
    ("ij,ik,i->jk", (2, 2), (2, 3), (2,)),
    ("...ij,...jk->...ik", (2, 2, 3), (3, 2)),
    ("...ij,...jk", (2, 3), (2, 3, 2)),
    ("...i->...", (2, 2, 3)),
    ("i...,i...->...", (2, 3), (2, 2, 3)),
    ("...,...", (2, 1), (3,)),
    ("...ii->...i", (2, 3, 3)),
    ("i...", (2, 3)),
    ("...,i->i...", (), (2,)),
    (" i j , j -> i ", (2, 3), (3,)),
    (",->", (), ()),
    ("i,i,i->", (3,), (3,), (3,)),
    ("ij,kj,k", (2, 3), (2, 3), (2,)),
    ("bhqd,bhkd->bhqk", (1, 2, 2, 2), (1, 2, 3, 2)),
    ("ij,jk->ik", (2, 0), (0, 3)),
    ("ij->j", (0, 3)),
    ("aB,Ba->B", (2, 3), (3, 2)),
    ("i->", (3,)),
]
VECTOR_ORDERS = [None, 2, 1, 0, np.inf, -np.inf, 3, 2.5, 1.5, 0.5, -1]
MATRIX_ORDERS = [None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf]

# The columns are aligned by hand, as in the table of rules.
# fmt: off
cases: dict[Callable[..., Any], list[Case]] = {
    np.vdot: [case(np.vdot, *shapes) for shapes in [((3,), (3,)), ((2, 3), (3, 2)), ((), ()), ((0,), (0,))]],
    np.outer: [case(np.outer, *shapes) for shapes in [((2,), (3,)), ((2, 2), (3,)), ((), (2,)), ((0,), (2,))]],
    np.linalg.outer: [case(np.linalg.outer, (2,), (3,))],
    np.tensordot: [case(np.tensordot, (2, 3, 2), (3, 2, 2)), case(np.tensordot, (2, 3), (2,), axes=0),
                   case(np.tensordot, (2, 3), (3, 2), axes=1), case(np.tensordot, (2, 3), (3, 2), axes=(0, -1)),
                   case(np.tensordot, (2, 3, 2), (3, 2, 2), axes=([1, 0], [0, -1])), case(np.tensordot, (), (), axes=0),
                   case(np.tensordot, (2, 0), (0, 3), axes=1),
                   case(lambda x: np.tensordot(x, np.ones((3, 2), x.dtype), 1), (2, 3))],
    np.linalg.tensordot: [case(np.linalg.tensordot, (2, 3), (3, 2), axes=1), case(np.linalg.tensordot, (2, 3), (2, 3))],
    np.einsum: [case(lambda *x, text=text: np.einsum(text, *x), *shapes) for text, *shapes in SUBSCRIPTS]
             + [case(lambda *x, text=text: np.einsum(text, *x, optimize=True), *shapes)
                for text, *shapes in SUBSCRIPTS[12:20]]
             + [case(lambda x, y: np.einsum(x, [0, 1], y, [1, 2], [2, 0]), (2, 3), (3, 2)),
                case(lambda x, y: np.einsum(x, [0, 1], y, [1, 27]), (2, 3), (3, 2)),
                case(lambda x, y: np.einsum(x, [..., 0], y, [..., 0], [...]), (2, 3), (3,)),
                case(lambda x: np.einsum(x, [0, 0, 1]), (2, 2, 3)), case(lambda x: np.einsum("ij,ij", x, x), (2, 3)),
                case(lambda x: np.einsum("ij,j", x, [1, 2, 3]), (2, 3)),
                case(lambda x, y: np.einsum("i,ij", x, y, optimize=["einsum_path", (0, 1)]), (2,), (2, 3)),
                case(lambda x, y: np.einsum("i,ij", x, y, dtype=np.float64), (2,), (2, 3))],
    np.kron: [case(np.kron, *shapes) for shapes in [((2,), (3,)), ((2, 3), (2, 2)), ((2,), (1, 2, 2)), ((), (2,)),
                                                    ((2, 0), (2, 2))]],
    np.cross: [case(np.cross, *shapes) for shapes in [((3,), (3,)), ((2, 3), (3,)), ((2, 1, 3), (2, 3))]]
            + [case(np.cross, (3, 2), (2, 3), axisa=0), case(np.cross, (3, 2), (3, 2), axis=0),
               case(np.cross, (2, 3), (3, 2), axisb=0, axisc=0)],
    np.linalg.cross: [case(np.linalg.cross, (2, 1, 3), (2, 2, 3)), case(np.linalg.cross, (3, 2), (3, 2), axis=0)],
    np.linalg.matmul: [case(np.linalg.matmul, (2, 2, 3), (3, 2))],
    np.linalg.vecdot: [case(np.linalg.vecdot, (2, 3), (2, 3)), case(np.linalg.vecdot, (3,), (2, 3)),
                       case(np.linalg.vecdot, (2, 3), (2, 1), axis=0)],
    np.linalg.matrix_transpose: [case(np.linalg.matrix_transpose, (2, 2, 3))],
    np.linalg.diagonal: [case(np.linalg.diagonal, shape, offset=k)
                         for shape in [(3, 3), (2, 2, 3)] for k in [0, 1, -1]],
    np.linalg.trace: [case(np.linalg.trace, (2, 2, 3)), case(np.linalg.trace, (3, 3), offset=1),
                      case(np.linalg.trace, (2, 2), dtype=np.float64)],
    np.linalg.multi_dot: [case(lambda *x: np.linalg.multi_dot(x), *shapes)
                          for shapes in [((2, 3), (3, 2)), ((3,), (3, 2), (2,)), ((2, 3), (3, 1), (1, 3), (3, 2)),
                                         ((2,), (2, 1), (1, 2)), ((1, 2), (2, 3), (3,)), ((2,), (2,))]],

    np.linalg.inv: [of(regular, np.linalg.inv, shape) for shape in SQUARES],
    np.linalg.det: [of(regular, np.linalg.det, shape) for shape in SQUARES],
    np.linalg.slogdet: [of(regular, lambda x, i=i: np.linalg.slogdet(-x)[i], shape)
                        for i in (0, 1) for shape in SQUARES],
    np.linalg.solve: [of(regular, np.linalg.solve, *shapes)
                      for shapes in [((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 2, 2), (2,)), ((2, 2, 2), (2, 1)),
                                     ((2, 2), (2, 2, 1)), ((2, 1, 2, 2), (3, 2, 1)), ((0, 2, 2), (2,)),
                                     ((2, 2), (2, 0))]],
    np.linalg.pinv: [of(regular, np.linalg.pinv, shape) for shape in [*SQUARES[:3], *TALL, *WIDE]]
                  + [of(positive, np.linalg.pinv, (2, 2), hermitian=True),
                     of(positive, np.linalg.pinv, (2, 3), rcond=1e-9), of(regular, np.linalg.pinv, (2, 3), rtol=None)],
    np.linalg.lstsq: [case(lambda a, b, i=i, rcond=rcond: np.linalg.lstsq(regular(a), b, rcond)[i], *shapes)
                      for i in (0, 1) for rcond in (None, -1, 1e-9)
                      for shapes in [((3, 2), (3,)), ((3, 2), (3, 2)), ((2, 3), (2,)), ((2, 2), (2, 1))]
                      if i == 0 or shapes[0] == (3, 2)]
                   + [of(regular, lambda x: np.linalg.lstsq(x, np.ones(3, x.dtype))[3], (3, 2))],
    np.linalg.cholesky: [of(kind, np.linalg.cholesky, shape, **k) for shape in SQUARES for kind in (positive, regular)
                         for k in [{}, {"upper": True}]],
    np.linalg.qr: [row for mode in ["reduced", "complete"]
                   for row in each(regular, np.linalg.qr, 2, (3, 3), (2, 2, 2), *WIDE, mode=mode)]
                + each(regular, np.linalg.qr, 2, *TALL) + [of(regular, np.linalg.qr, (3, 2), mode="r")],
    np.linalg.svd: each(regular, np.linalg.svd, 3, (3, 3), *TALL, *WIDE, full_matrices=False)
                 + each(regular, np.linalg.svd, 3, (2, 2, 2)) + each(regular, np.linalg.svd, 3, (2, 2), hermitian=True)
                 + [of(regular, np.linalg.svd, shape, compute_uv=False) for shape in [(3, 3), (3, 2), (2, 2, 3)]],
    np.linalg.svdvals: [of(regular, np.linalg.svdvals, shape) for shape in [(3, 3), (2, 3, 2), (0, 2, 2)]],
    np.linalg.eig: [case(lambda x, y: spectrum(regular(x) + 1j * y), shape, shape)
                    for shape in [(3, 3), (2, 2, 2), (0, 2, 2)]],
    np.linalg.eigvals: [case(lambda x, y: np.linalg.eigvals(regular(x) + 1j * y), (3, 3), (3, 3))],
    np.linalg.eigh: [row for k in [{}, {"UPLO": "U"}]
                     for row in each(regular, np.linalg.eigh, 2, (3, 3), (2, 2, 2), (0, 2, 2), **k)],
    np.linalg.eigvalsh: [of(regular, np.linalg.eigvalsh, (3, 3), **k) for k in [{}, {"UPLO": "U"}]],
    np.linalg.matrix_power: [of(regular, lambda x, n=n: np.linalg.matrix_power(x / 9, n), (2, 2))
                             for n in [*range(8), -1, -3]] + [of(regular, np.linalg.matrix_power, (2, 2, 2), n=3)],
    np.linalg.tensorinv: [case(lambda x, s=s, ind=ind: np.linalg.tensorinv(np.reshape(regular(x), s), ind), (4, 4))
                          for s, ind in [((2, 2, 4), 2), ((4, 2, 2), 1)]],
    np.linalg.tensorsolve: [case(lambda x, y: np.linalg.tensorsolve(np.reshape(regular(x), (2, 2, 4)), y),
                                 (4, 4), (2, 2)),
                            case(lambda x, y: np.linalg.tensorsolve(np.reshape(regular(x), (2, 4, 2)), y, (0,)),
                                 (4, 4), (4,))],
    np.linalg.norm: [case(np.linalg.norm, shape, **k) for shape in [(3,), (2, 3), (2, 2, 2), ()]
                     for k in [{}, {"keepdims": True}]]
                  + [case(np.linalg.norm, (3,), ord=p) for p in VECTOR_ORDERS]
                  + [case(np.linalg.norm, (2, 3), ord=p, axis=axis, keepdims=axis < 0)
                     for p in VECTOR_ORDERS for axis in [1, -2]]
                  + [of(regular, np.linalg.norm, (3, 2), ord=p, keepdims=keep) for p in MATRIX_ORDERS
                     for keep in [False, True]]
                  + [case(lambda x, p=p, axis=axis: np.linalg.norm(
                              np.moveaxis(regular(x), (-2, -1), axis), p, axis, keepdims=axis[0] == 2), (2, 2, 3))
                     for p in MATRIX_ORDERS for axis in [(0, 2), (2, 0), (-1, 1)]],
    np.linalg.vector_norm: [case(np.linalg.vector_norm, (2, 3), axis=axis, keepdims=keep, ord=p)
                            for axis in [None, 0, (0, 1)] for keep in [False, True] for p in [2, 1, np.inf]],
    np.linalg.matrix_norm: [of(regular, np.linalg.matrix_norm, (2, 2, 3), ord=p, keepdims=keep)
                            for p in ["fro", 2, 1] for keep in [False, True]],
    np.linalg.cond: [of(regular, np.linalg.cond, shape, **k) for k in [{}, {"p": 2}, {"p": -2}]
                     for shape in [(3, 3), (2, 2, 3)]]
                  + [of(regular, np.linalg.cond, (2, 2, 2), p=p) for p in [1, "fro", np.inf, "nuc"]],
}
# fmt: on
known_as = {**joined, np.linalg.lstsq: least_squares}  # the functions that have the rules
primitives = {known_as.get(f, f): rows for f, rows in cases.items() if known_as.get(f, f) in vjps}
primitives[beside.__wrapped__] = [case(lambda g, x: beside(g, regular(x), rcond=1e-3), (2, 3), (3, 2))]
spellings = {f: rows for f, rows in cases.items() if f in composites}


@pytest.mark.parametrize("function", cases, ids=name_of)
def test_function(function: Callable[..., Any]) -> None:
    for number, row in rows_of(function, cases, 8):
        check(row, exact=False, number=number)


@pytest.mark.parametrize("function", cases, ids=name_of)
def test_arrays_that_need_no_gradient(function: Callable[..., Any]) -> None:
    for row in cases[function]:
        assert not row.function(*map(mg.Tensor, arguments(row, seed=0))).requires_grad


# --------------------------------------------------------------------------------------------------- for all arguments


@st.composite
def einsums(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    """Subscripts with repeated, missing and stretched indices, and shapes that go with them."""
    sizes = {c: draw(st.integers(0, 3)) for c in "ijkL"}
    ellipsis = draw(st.lists(st.integers(1, 2), max_size=2))
    terms, shapes = [], []
    for _ in range(draw(st.integers(1, 3))):
        letters = draw(st.text("ijkL", max_size=3))
        stretched = [draw(st.booleans()) and letters.count(c) == 1 for c in letters]
        core = tuple(1 if short else sizes[c] for c, short in zip(letters, stretched, strict=True))
        dots = draw(st.none() | st.integers(0, len(ellipsis)))
        if dots is None:
            terms.append(letters)
            shapes.append(core)
        else:
            cut = draw(st.integers(0, len(letters)))
            terms.append(f"{letters[:cut]}...{letters[cut:]}")
            shapes.append((*core[:cut], *ellipsis[len(ellipsis) - dots :], *core[cut:]))
    subscripts = ",".join(terms)
    if draw(st.booleans()):
        letters = sorted(set("".join(terms)) - {"."})
        output = draw(st.permutations(draw(st.lists(st.sampled_from(letters), unique=True)) if letters else []))
        subscripts += "->" + "".join(output) + ("..." if "..." in subscripts else "")
    return subscripts, shapes


@given(einsums(), st.integers(0, 2**32))
def test_einsum_of_any_subscripts(einsum: tuple[str, list[tuple[int, ...]]], seed: int) -> None:
    subscripts, shapes = einsum
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(0.5, 2, shape) for shape in shapes]
    try:
        np.einsum(subscripts, *arrays)
    except ValueError:
        reject()  # an empty axis against one of another length
    check_grads(lambda *xs: np.einsum(subscripts, *xs), arrays)


@given(st.data(), st.integers(0, 2**32))
def test_tensordot_over_any_axes(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    summed = data.draw(st.lists(st.integers(0, 3), max_size=2))
    arrays, axes = [], []
    for _ in range(2):
        shape = [*summed, *data.draw(st.lists(st.integers(0, 3), max_size=2))]
        places = data.draw(st.permutations(range(len(shape))))
        arrays.append(np.moveaxis(rng.uniform(0.5, 2, shape), range(len(shape)), places))
        axes.append([p - len(shape) * data.draw(st.integers(0, 1)) for p in places[: len(summed)]])
    f = lambda x, y: np.tensordot(x, y, axes)
    np.testing.assert_allclose(f(*map(mg.Tensor, arrays)).data, f(*arrays), rtol=1e-13)
    check_grads(f, arrays)


@given(nps.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=2), st.data(), st.integers(0, 2**32))
def test_stacks_of_equations(shapes: Any, data: st.DataObject, seed: int) -> None:
    (of_a, of_b), n = shapes.input_shapes, data.draw(st.integers(1, 3))
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-1, 1, (*of_a, n, n)), rng.uniform(-1, 1, (*of_b, n, data.draw(st.integers(0, 2))))
    f = lambda a, b: np.linalg.solve(regular(a), b)
    np.testing.assert_array_equal(f(mg.Tensor(a), mg.Tensor(b)).data, f(a, b))
    check_grads(f, [a, b])


@pytest.mark.parametrize("p", VECTOR_ORDERS)
@given(nps.array_shapes(max_dims=3, max_side=3), st.data(), st.booleans(), st.integers(0, 2**32))
def test_norms_along_any_axis(p: Any, shape: tuple[int, ...], data: st.DataObject, keepdims: bool, seed: int) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = np.random.default_rng(seed).permutation(1.0 + np.arange(np.prod(shape))).reshape(shape)
    f = lambda x: np.linalg.norm(x, p, axis, keepdims)
    np.testing.assert_allclose(f(mg.Tensor(x)).data, f(x), rtol=1e-13)
    check_grads(f, [x], order=1)


@given(st.lists(st.integers(1, 4), min_size=3, max_size=7), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_chains_of_products(sizes: list[int], row: bool, column: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(-1, 1, shape) for shape in itertools.pairwise(sizes)]
    arrays[0], arrays[-1] = arrays[0][0] if row else arrays[0], arrays[-1][:, 0] if column else arrays[-1]
    f = lambda *xs: np.linalg.multi_dot(xs)
    np.testing.assert_allclose(f(*map(mg.Tensor, arrays)).data, f(*arrays), atol=1e-13)
    check_grads(f, arrays, order=1)


# ---------------------------------------------------------------------------------- where matrices or norms degenerate


@pytest.mark.parametrize(
    "x", [[[0.0]], [[1.0, 2], [2, 4]], np.zeros((2, 2)), np.ones((3, 3)), np.arange(9.0).reshape(3, 3),
          [np.ones((2, 2)), np.eye(2)], np.zeros((4, 4)), np.diag([1.0, 2, 0, 3])]
)  # fmt: skip
def test_det_of_singular_matrices(x: Any) -> None:
    check_grads(np.linalg.det, [np.array(x)])


def test_slogdet_in_a_stack_is_infinite_at_singular_matrices_alone() -> None:
    x = np.array([[[1.0, 2], [2, 4]], [[2, 1], [0, -4]]])
    gradient = mg.grad(lambda x: np.sum(np.linalg.slogdet(x).logabsdet))(x)
    assert np.all(np.isinf(gradient[0]))
    np.testing.assert_allclose(gradient[1], [[0.5, 0], [0.125, -0.25]], rtol=1e-15)


@pytest.mark.parametrize("p", [p for p in VECTOR_ORDERS if p != -1])
def test_norm_of_zeros(p: Any) -> None:
    """The first derivative is 0; so is the second of sums and choices, and with infinite slopes; else it is nan."""
    x = np.array([[0.0, 0, 0], [3, 4, 5]])
    for f, q in (
        (lambda x: np.linalg.norm(x, p, 1), p),
        (lambda x: np.linalg.vector_norm(x, axis=1, ord=p or 2), p or 2),
    ):
        first = lambda x, f=f: mg.grad(lambda x: np.sum(f(x)))(x)
        second = lambda x, first=first: mg.grad(lambda x: np.sum(first(x)))(x)
        for derivative, at_zero in ((first, 0), (second, 0 if q in (0, 0.5, 1, np.inf, -np.inf) else np.nan)):
            np.testing.assert_array_equal(derivative(x)[0], at_zero)
            np.testing.assert_allclose(derivative(x)[1], derivative(x[1:])[0], rtol=1e-15)
            np.testing.assert_array_equal(derivative(np.zeros((2, 3))), at_zero)


@pytest.mark.parametrize("p", MATRIX_ORDERS)
def test_norm_of_zero_matrices(p: Any) -> None:
    x = np.array([np.zeros((2, 3)), [[3, 0, 1], [0, 2, 0.5]]])
    first = lambda x: mg.grad(lambda x: np.sum(np.linalg.norm(x, p, (1, 2))))(x)
    second = lambda x: mg.grad(lambda x: np.sum(first(x)))(x)
    for derivative, at_zero in ((first, 0), (second, 0 if p in (1, -1, np.inf, -np.inf) else np.nan)):
        np.testing.assert_array_equal(derivative(x)[0], at_zero)
        np.testing.assert_allclose(derivative(x)[1], derivative(x[1:])[0], rtol=1e-15)


def test_equal_values_have_derivatives_and_their_vectors_have_none() -> None:
    x = np.eye(3)
    for values in (np.linalg.eigvalsh, np.linalg.svdvals, lambda x: np.linalg.eigh(x).eigenvalues):
        np.testing.assert_array_equal(mg.grad(lambda x, f=values: np.sum(f(x)))(x), x)
    np.testing.assert_allclose(mg.grad(np.linalg.norm)(x), x / np.sqrt(3), rtol=1e-15)
    np.testing.assert_allclose(mg.grad(lambda x: np.linalg.norm(x, 2))(x), x / 3, rtol=1e-15)
    vectors = mg.grad(lambda x: np.sum(np.linalg.eigh(x).eigenvectors * np.arange(3.0)))(x)
    assert not np.all(np.isfinite(vectors))

    def exponential(x: Any) -> Any:  # has a gradient, but it cannot be had from the vectors: nan says so, and not 0
        w, v = np.linalg.eigh(x)
        return np.sum((v * np.exp(w)) @ v.T)

    assert not np.all(np.isfinite(mg.grad(exponential)(x)))
    check_grads(exponential, [np.diag([1.0, 2, 4])])
    values = mg.grad(lambda x: np.sum(np.linalg.svdvals(x)))(np.ones((3, 2)))  # of rank 1
    assert np.all(np.isfinite(values))


def test_cond_of_singular_matrices_is_infinite() -> None:
    for x in (np.ones((2, 2)), np.zeros((3, 3)), np.arange(4.0).reshape(2, 2)):
        for p in (1, np.inf, "fro", -2):
            with np.errstate(all="ignore"):
                expected = np.linalg.cond(x, p)
            np.testing.assert_allclose(np.linalg.cond(mg.Tensor(x), p).data, expected, rtol=1e-13)


def test_the_triangle_that_is_not_read_gets_nothing() -> None:
    x = np.array([[7.0, 9], [1, 8]])
    for function in (np.linalg.cholesky, np.linalg.eigvalsh):
        gradient = mg.grad(lambda x, f=function: np.sum(f(x)))(x)
        assert gradient[0, 1] == 0 != gradient[1, 0]
        gradient = mg.grad(lambda x, f=function: np.sum(f((x + x.T) / 2)))(x)
        assert gradient[0, 1] == gradient[1, 0] != 0


# ------------------------------------------------------------------------------------------- what the table cannot say


@pytest.mark.parametrize(
    "function",
    [np.linalg.slogdet, np.linalg.eigh, np.linalg.svd, np.linalg.qr, lambda x: np.linalg.lstsq(x, np.ones((3, 2)))],
)
def test_several_answers_are_named_as_in_numpy(function: Callable[..., Any]) -> None:
    x = regular(np.random.default_rng(0).normal(size=(2, 3, 3)))
    x = x[0] if function.__name__ == "<lambda>" else x
    expected, found = function(x), function(mg.Tensor(x))
    assert type(found) is type(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.data if isinstance(a, mg.Tensor) else a, b, rtol=1e-13)


def test_lstsq_where_the_rank_is_not_known_yet_says_what_to_write() -> None:
    a, b = np.array([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]]), np.array([1.0, -2.0, 0.5])
    by_lstsq, by_pinv = lambda a: np.sum(np.linalg.lstsq(a, b)[0] ** 2), lambda a: np.sum((np.linalg.pinv(a) @ b) ** 2)
    for f in (by_lstsq, mg.grad(by_lstsq)):
        with pytest.raises(TypeError, match=r"test_linalg\.py:\d+, .*lstsq .* write np\.linalg\.pinv\(a\) @ b"):
            mg.compile(f)(a)
    np.testing.assert_allclose(mg.compile(mg.grad(by_pinv))(a), mg.grad(by_lstsq)(a), rtol=1e-9)
    by_b = mg.compile(mg.grad(lambda b: np.sum(np.linalg.lstsq(a, b)[0] ** 2)))(b)
    np.testing.assert_allclose(by_b, mg.grad(lambda b: np.sum((np.linalg.pinv(a) @ b) ** 2))(b), rtol=1e-9)


def test_lstsq_of_matrices_without_full_rank() -> None:
    a, b = np.array([[1.0, 1], [2, 2], [3, 3]]), np.array([1.0, 2, 4])
    expected, found = np.linalg.lstsq(a, b), np.linalg.lstsq(mg.Tensor(a), mg.Tensor(b))
    np.testing.assert_allclose(found[0].data, expected[0], rtol=1e-13)
    assert found[1].shape == expected[1].shape == (0,)
    assert found[2] == expected[2] == 1
    check_grads(lambda b: np.linalg.lstsq(a, b)[0], [b])


def test_constants_of_matrices() -> None:
    x = mg.Tensor(np.ones((3, 3)), requires_grad=True)
    assert np.linalg.matrix_rank(x) == 1
    assert np.einsum_path("ij,jk", x, x)[0] == np.einsum_path("ij,jk", x.data, x.data)[0]


def test_norms_of_integers() -> None:
    x = np.array([[3, 4], [0, 5]])
    for p in (None, 1, 2, np.inf, "nuc"):
        np.testing.assert_allclose(np.linalg.norm(mg.Tensor(x), p).data, np.linalg.norm(x, p), rtol=1e-13)


@pytest.mark.parametrize("function", [np.linalg.inv, np.linalg.cholesky, np.linalg.eigh, np.linalg.solve])
def test_complaints_of_linalg_stay_what_they_are(function: Callable[..., Any]) -> None:
    """Programs catch LinAlgError, for instance to add to the diagonal and try again."""
    for x in (np.ones((2, 3)), *([] if function is np.linalg.eigh else [np.zeros((2, 2))])):
        with pytest.raises(np.linalg.LinAlgError):
            function(mg.Tensor(x), *([x[:, :1]] if function is np.linalg.solve else []))


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda x: np.linalg.svd(x),                 NotImplementedError, "say full_matrices=False"),
    (lambda x: np.linalg.qr(x, "complete"),      NotImplementedError, "free to turn"),
    (lambda x: np.linalg.qr(x, "raw"),           NotImplementedError, "mode 'raw'"),
    (lambda x: np.cross(x, x),                   ValueError,          "length 3, not 2 and 2"),
    (lambda x: np.linalg.outer(x, x),            ValueError,          "two vectors, not arrays of 2 and 2 axes"),
    (lambda x: np.tensordot(x, x, 1),            ValueError,          "differ in length"),
    (lambda x: np.linalg.norm(x, "nuc", 0),      ValueError,          "'nuc' is a norm of matrices"),
    (lambda x: np.linalg.norm(x, 3),             ValueError,          "not 3"),
    (lambda x: np.linalg.norm(x[None], 2),       ValueError,          "not 3"),
    (lambda x: np.outer(x, x, out=np.ones(36)),  TypeError,           "cannot write a Tensor into out="),
])  # fmt: skip
def test_refusals(call: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(mg.Tensor(np.ones((3, 2)), requires_grad=True))


def test_the_likelihood_of_a_gaussian_process() -> None:
    """A program written for NumPy, against its closed form."""
    rng = np.random.default_rng(0)
    x, y, noise = rng.uniform(-2, 2, 8), rng.normal(size=8), 0.1
    squares = np.square(x[:, None] - x)

    def kernel(scale: Any) -> Any:
        return np.exp(-squares / (2 * scale**2)) + noise * np.eye(8)

    def likelihood(scale: Any) -> Any:
        lower = np.linalg.cholesky(kernel(scale))
        white = np.linalg.solve(lower, y)
        return -np.sum(np.square(white)) / 2 - np.sum(np.log(np.linalg.diagonal(lower))) - 4 * np.log(2 * np.pi)

    k = kernel(0.7)
    change = (k - noise * np.eye(8)) * squares / 0.7**3
    weights = np.linalg.solve(k, y)
    expected = (weights @ change @ weights - np.trace(np.linalg.solve(k, change))) / 2
    np.testing.assert_allclose(mg.grad(likelihood)(0.7), expected, rtol=1e-10)
    check_grads(likelihood, [np.array(0.7)])


# ------------------------------------------------------------------------------------------- large and tiny matrices

MATRIX = np.random.default_rng(3).normal(size=(4, 3)) + 2 * np.eye(4, 3)
OTHER = np.random.default_rng(4).normal(size=(4, 4))
weighted: Callable[[Any], Any] = lambda x: np.sum(x * OTHER[: x.shape[-2], : x.shape[-1]].astype(x.dtype))
SCALED: dict[str, tuple[Callable[[Any], Any], int]] = {  # function of a matrix, and the power of its size in its slope
    "vectors": (lambda x: sum(map(weighted, np.linalg.svd(x[:3])[::2])), -1),
    "vectors of a tall one": (lambda x: sum(map(weighted, np.linalg.svd(x, full_matrices=False)[::2])), -1),
    "vectors of a wide one": (lambda x: sum(map(weighted, np.linalg.svd(x.T, full_matrices=False)[::2])), -1),
    "singular values": (lambda x: np.sum(np.linalg.svdvals(x) * np.arange(3)), 0),
    "nuclear norm": (lambda x: np.linalg.norm(x, "nuc"), 0),
    "eigenvectors": (lambda x: weighted(np.linalg.eigh(x[:3] + x[:3].T)[1]), -1),
    "orthonormal columns": (lambda x: weighted(np.linalg.qr(x)[0]), -1),
    "pseudo-inverse": (lambda x: weighted(np.linalg.pinv(x)), -2),
    "of a wide one": (lambda x: weighted(np.linalg.pinv(x.T)), -2),
    "least squares": (lambda x: weighted(np.linalg.lstsq(x, np.eye(4, 2, dtype=x.dtype))[0]), -2),
    "inverse": (lambda x: weighted(np.linalg.inv(x[:3])), -2),
    "determinant": (lambda x: np.linalg.det(x[:3]), 2),
    "of two rows": (lambda x: np.linalg.det(x[:2, :2]), 1),
    "its logarithm": (lambda x: np.linalg.slogdet(x[:3])[1], -1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SCALED)
def test_slopes_at_every_scale(name: str, dtype: Any) -> None:
    f, power = SCALED[name]
    expected, limits = mg.grad(f)(MATRIX), np.finfo(dtype)
    for exponent in (4, 13, 24, 33, 53, 66, 80, 120, 500):
        for scale in (2.0**exponent, 2.0**-exponent):
            size, slope = abs(np.log2(scale)), abs(power * np.log2(scale))
            if max(size, slope) + 8 < limits.maxexp:  # so far they are numbers of that dtype
                with np.errstate(over="ignore"):  # the value may be too large, where its slope is not
                    found = mg.grad(f)((MATRIX * scale).astype(dtype)).astype(np.float64) / scale**power
                np.testing.assert_allclose(found, expected, rtol=0, atol=300 * limits.eps * np.max(np.abs(expected)))


def test_determinants_that_are_too_small() -> None:
    x = np.diag(np.array([1e-20, 1e-30, 1], np.float32))
    assert np.linalg.det(x) == 0
    np.testing.assert_allclose(np.diag(mg.grad(np.linalg.det)(x))[:2], [1e-30, 1e-20], rtol=1e-4)


# ------------------------------------------------------------------------------------ where singular values are cut off


def with_values(shape: tuple[int, ...], *values: float) -> np.ndarray:
    u, _, vh = np.linalg.svd(np.random.default_rng(1).normal(size=shape), full_matrices=False)
    return np.asarray(u * np.array(values) @ vh)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (3, 3)])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.linalg.pinv(x, 0.3),
        lambda x: np.linalg.pinv(x, rtol=0.3),
        lambda x: np.linalg.pinv(x, rtol=0.8),
        lambda x: np.linalg.pinv(x @ x.T, 0.1, hermitian=True),
        lambda x: np.linalg.lstsq(x, np.eye(len(x))[:, :2], 0.3)[0],
        lambda x: np.linalg.pinv(np.stack([x, x]), np.array([0.3, 1e-9])),
    ],
)
def test_what_is_cut_off_turns_what_is_kept(f: Callable[[Any], Any], shape: tuple[int, ...]) -> None:
    x = with_values(shape, 3, 2, 0.5)
    check_grads(f, [x], order=1)
    second = mg.grad(lambda x: np.sum(mg.grad(lambda x: np.sum(f(x)))(x)))(x)
    assert np.all(np.isnan(second))  # it is not known, and says so


@pytest.mark.parametrize("rcond", [None, 1e-9, 0.3])
def test_where_nothing_but_rounding_is_cut_off_there_are_second_derivatives(rcond: Any) -> None:
    for x in (with_values((3, 3), 3, 2, 1), with_values((4, 3), 3, 2, 0), np.eye(3)):
        f = lambda t, x=x: np.sum(np.linalg.pinv(x * t, rcond) * OTHER[:3, : len(x)])
        check_grads(f, [np.array(2.0)], order=2)
