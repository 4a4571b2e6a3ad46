"""Every composite agrees with the NumPy function that it spells, in value and in derivative."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import BETWEEN_INTEGERS, POSITIVE, REAL, Case, arguments, case, check
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from test_linalg import spellings as linalg_cases

import minigrad as mg
from minigrad.tensor import composites, constants, name_of, vjps
from minigrad.testing import check_grads

# ------------------------------------------------------------------------------------------------- the table of cases

MASK = np.array([[True, False, True], [True, True, True]])
KEYWORDS = [
    {},
    {"axis": 0},
    {"axis": -1},
    {"axis": (0, -1)},
    {"axis": None, "keepdims": True},
    {"axis": 1, "keepdims": True},
]
MOMENTS = [
    *KEYWORDS,
    {"dtype": np.float64},
    {"where": MASK},
    {"where": MASK, "axis": 1},
    {"where": MASK[0], "keepdims": True},
]
SPREADS = [*MOMENTS, {"ddof": 1}, {"ddof": 2, "axis": 1}, {"ddof": 0.5}, {"correction": 1}, {"ddof": 1, "where": MASK}]
REDUCED = [{}, {"axis": 1}, {"axis": None}, {"axis": (0, 1), "keepdims": True}, {"axis": -1, "initial": 2.0}]
LOW, HIGH = ((-1.1, -0.9),), ((0.9, 1.1),)
DOTTED = [((), (3,), (2, 3), (2, 2, 3), (2, 1, 2, 3)), ((), (3,), (3, 2), (2, 3, 2), (2, 2, 3, 1))]


def weighted(pieces: Any, axis: int = 0) -> Any:
    """The pieces put together again, each with a weight of its own."""
    return np.concatenate([(i + 1) * piece for i, piece in enumerate(pieces)], axis)


# The columns are aligned by hand, as in the table of rules.
# fmt: off
cases: dict[Callable[..., Any], list[Case]] = {
    np.where: [case(lambda x, y: np.where([[True], [False]], x, y), (3,), (2, 1))],
    np.concatenate: [case(lambda x, y: np.concatenate([x, y]), (2, 3), (1, 3)),
                     case(lambda x: np.concatenate(x), (2, 3)),
                     case(lambda x, y: np.concatenate((x, y, x), axis=-1), (2, 3), (2, 0)),
                     case(lambda x, y: np.concatenate([x, y], axis=None), (2, 3), ()),
                     case(lambda x: np.concatenate([np.ones((1, 3)), x]), (2, 3)),
                     case(lambda x: np.concatenate([x, x], dtype=np.float64), (2, 3))],
    np.stack: [case(lambda x, y, axis=axis: np.stack([x, y], axis), (2, 3), (2, 3)) for axis in [0, 1, 2, -1, -3]]
            + [case(lambda x, y: np.stack([x, y, np.float32(1)]), (), ()), case(lambda x: np.stack(x, axis=1), (2, 3))],
    np.split: [case(lambda x, n=n, axis=axis: weighted(np.split(x, n, axis), axis), (4, 6))
               for n, axis in [(2, 0), (3, -1), ([1], 0), ([1, 3, 3, 9], 1), ([], 0)]],
    np.array_split: [case(lambda x, n=n, axis=axis: weighted(np.array_split(x, n, axis), axis), (4, 6))
                     for n, axis in [(3, 0), (4, -1), ([2, 5], 1), (6, 0)]],
    np.mean: [case(np.mean, (2, 3), **k) for k in MOMENTS] + [case(np.mean, (2, 2, 3), axis=(0, 2)), case(np.mean, ()),
              case(np.mean, (0, 3), axis=1)],
    np.var: [case(np.var, (2, 3), **k) for k in SPREADS] + [case(np.var, (2, 2, 3), axis=(0, 2)),
             case(lambda x: np.var(x, mean=np.mean(x)), (2, 3)), case(np.var, (0, 3), axis=1)],
    np.std: [case(np.std, (2, 3), **k) for k in SPREADS] + [case(np.std, (2, 2, 3), axis=(0, 2)),
             case(lambda x: np.std(x, axis=0, mean=np.mean(x, axis=0, keepdims=True)), (2, 3)),
             case(np.std, (0, 3), axis=1)],
    np.clip: [case(lambda x, k=k: np.clip(x, *k), (2, 3)) for k in [(-1, 1), (None, 1.0), (-1, None), ([-1, 0, 1], 2)]]
           + [Case(np.clip, [(2, 3), (3,), (2, 1)], [REAL, LOW, HIGH]), case(lambda x: x.clip(-1, 1), (2, 3)),
              case(np.clip, (2, 3), a_min=-1, a_max=1),
              case(lambda x: np.clip(np.float32(1), x, 2 * x), (3,), domain=POSITIVE)],
    np.dot: [case(np.dot, x, y) for x in DOTTED[0] for y in DOTTED[1]] + [case(np.dot, (0, 3), (3, 2)),
             case(np.dot, (2, 0), (2, 0, 3)), case(lambda x: x.dot(x.T), (2, 3))],
    np.inner: [case(np.inner, x, y) for x in [(), (3,), (2, 3), (2, 2, 3)] for y in [(), (3,), (4, 3), (2, 1, 3)]],
    np.ravel: [case(np.ravel, (2, 3)), case(np.ravel, (2, 3), order="F"), case(np.ravel, ()),
               case(lambda x: x.flatten(), (2, 0))],
    np.repeat: [case(lambda x, k=k: np.repeat(x, *k), (2, 3))
                for k in [(2,), (2, 0), (3, -1), ([1, 0, 2], 1), (np.array([2, 1]), 0), (0, 1), ([1, 2, 0, 1, 0, 3],)]],
    np.tile: [case(np.tile, (2, 3), reps=reps) for reps in [2, (2, 1), (1, 2), (2, 1, 3), (0, 1), ()]]
           + [case(np.tile, (), reps=(2, 3)), case(np.tile, (2, 1, 2), reps=(2,))],
    np.pad: [case(lambda x, width=width, mode=mode: np.pad(x, width, mode), (2, 3))
             for mode in ["constant", "edge", "reflect", "symmetric", "wrap"]
             for width in [1, (2, 0), ((0, 1), (4, 2)), 0]]
          + [case(np.pad, (2, 3), pad_width=1, constant_values=7.0), case(np.pad, (), pad_width=0),
             case(np.pad, (2,), pad_width=(1, 2), constant_values=(3, 4)), case(np.pad, (0, 2), pad_width=1)],
    np.full_like: [case(np.full_like, (2, 3), ()), case(np.full_like, (2, 3), (3,)), case(np.full_like, (2,),
                   (), shape=(4,))],
    np.divmod: [Case(lambda x, y, i=i: np.divmod(x, y)[i], [(2, 3), (3,)], [BETWEEN_INTEGERS, ((-1.02, -0.98),
                (0.98, 1.02))])
                for i in range(2)],
    np.modf: [case(lambda x, i=i: np.modf(x)[i], (2, 3), domain=BETWEEN_INTEGERS) for i in range(2)],
    np.conjugate: [case(np.conjugate, (2, 3)), case(np.conj, ())],
    np.add.accumulate: [case(np.add.accumulate, (2, 3)), case(np.add.accumulate, (2, 3), axis=-1)],
    np.add.reduce: [case(np.add.reduce, (2, 3), **k) for k in REDUCED],
    np.multiply.reduce: [case(np.multiply.reduce, (2, 3), **k) for k in REDUCED],
    np.maximum.reduce: [case(np.maximum.reduce, (2, 3), **k) for k in REDUCED],
    np.minimum.reduce: [case(np.minimum.reduce, (2, 3), **k) for k in REDUCED],
    np.cumprod: [case(np.cumprod, (2, 3), **k) for k in [{}, {"axis": 0}, {"axis": -1}, {"dtype": np.float64}]]
              + [case(np.cumprod, (7,)), case(np.cumprod, (0, 3), axis=1), case(np.cumprod, ())],
}
# fmt: on


def test_every_composite_has_a_row() -> None:
    assert {*cases, *linalg_cases} == set(composites)


def test_no_function_is_in_two_tables() -> None:
    assert not set(composites) & constants
    assert not set(vjps) & constants
    some_forms_only = {np.where, np.inner, np.linalg.solve, np.linalg.pinv, np.linalg.cholesky}  # have rules
    assert set(vjps) & set(composites) == some_forms_only


@pytest.mark.parametrize("function", cases, ids=name_of)
def test_composite(function: Callable[..., Any]) -> None:
    for row in cases[function]:
        check(row, exact=False)


@pytest.mark.parametrize("function", cases, ids=name_of)
def test_composite_of_arrays_that_need_no_gradient(function: Callable[..., Any]) -> None:
    for row in cases[function]:
        answer = row.function(*map(mg.Tensor, arguments(row, seed=0)))
        assert not answer.requires_grad


# --------------------------------------------------------------------------------------------------- for all arguments


@pytest.mark.parametrize("function", [np.sum, np.prod, np.max, np.min, np.mean, np.var, np.std], ids=name_of)
@given(nps.array_shapes(max_dims=4, max_side=3), st.data(), st.booleans(), st.randoms(use_true_random=False))
def test_reductions_along_all_axes(
    function: Callable[..., Any], shape: tuple[int, ...], data: st.DataObject, keepdims: bool, random: Any
) -> None:
    axis = data.draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1), nps.valid_tuple_axes(len(shape))))
    numbers = [n / 7 for n in range(1, np.prod(shape) + 1)]  # apart from each other, so that no maximum is a tie
    random.shuffle(numbers)
    x = np.reshape(numbers, shape)
    f = lambda x: function(x, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(f(mg.Tensor(x)).data, f(x), rtol=1e-13, atol=1e-15)
    check_grads(f, [x], order=1)


@st.composite
def moves(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[str, Callable[[Any], Any]]:
    """A function that only moves, repeats or drops the numbers of an array of this shape, and how it reads."""
    n = len(shape)
    axis = st.integers(-n, n - 1)
    axes = draw(st.permutations(range(n)))
    places = draw(st.permutations(range(n)))
    count = draw(st.integers(0, n))
    signs = draw(st.lists(st.sampled_from([0, n]), min_size=n, max_size=n))
    mixed = [a - sign for a, sign in zip(axes, signs, strict=True)]  # some of them counted from behind
    small = st.integers(0, 2)
    calls = [
        ("np.transpose(x)", {}),
        ("np.transpose(x, axes)", {"axes": mixed}),
        ("np.moveaxis(x, source, destination)", {"source": mixed[:count], "destination": places[:count]}),
        ("np.flip(x, axes)", {"axes": tuple(mixed[:count])}),
        (
            "np.reshape(x, shape, order=order)",
            {"shape": [shape[i] for i in axes], "order": draw(st.sampled_from("CF"))},
        ),
        ("np.ravel(x, order)", {"order": draw(st.sampled_from("CF"))}),
        ("np.squeeze(x)", {}),
        ("np.squeeze(x, axes)", {"axes": tuple(i for i in mixed[:count] if shape[i] == 1)}),
        ("np.expand_dims(x, axes)", {"axes": tuple(sorted(axes[:count]))}),
        ("np.broadcast_to(x, shape)", {"shape": [*draw(st.lists(small, max_size=2)), *shape]}),
        ("np.repeat(x, n)", {"n": draw(small)}),
        ("np.tile(x, reps)", {"reps": draw(st.lists(small, max_size=n + 2))}),
    ]
    if n:
        pads = [draw(st.tuples(small, small)) for _ in shape]
        calls += [
            ("np.swapaxes(x, i, j)", {"i": draw(axis), "j": draw(axis)}),
            ("np.flip(x, i)", {"i": draw(axis)}),
            ("np.repeat(x, n, i)", {"n": draw(small), "i": draw(axis)}),
            ("np.concatenate([x, x], i)", {"i": draw(axis)}),
            ("np.stack([x, x], i)", {"i": draw(axis)}),
            ("np.array_split(x, n, i)[0]", {"n": draw(st.integers(1, 4)), "i": draw(axis)}),
        ]
        if all(shape):
            mode = draw(st.sampled_from(["edge", "reflect", "symmetric", "wrap"]))
            calls.append(("np.pad(x, pads, mode)", {"pads": pads, "mode": mode}))
    code, names = draw(st.sampled_from(calls))
    return f"{code} with {names}", lambda x: eval(code, {"np": np, **names, "x": x})


@settings(max_examples=5 * settings().max_examples)
@given(nps.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3), st.data())
def test_gradients_go_back_to_where_the_numbers_came_from(shape: tuple[int, ...], data: st.DataObject) -> None:
    """Numbers that name their places say exactly what the gradient is."""
    _, move = data.draw(moves(shape))
    x = np.arange(np.prod(shape, dtype=float)).reshape(shape)
    moved = move(x)
    weights = np.arange(moved.size).reshape(moved.shape) - 3.0
    expected = np.bincount(moved.ravel().astype(int), weights.ravel(), minlength=x.size).reshape(shape)
    np.testing.assert_array_equal(move(mg.Tensor(x)).data, moved)
    np.testing.assert_array_equal(mg.grad(lambda x: np.sum(weights * move(x)))(x), expected)


# ------------------------------------------------------------------------------------------- what the table cannot say


def test_half_precision_means_do_not_overflow() -> None:
    x = mg.Tensor(np.full(4, 60000, np.float16))
    for function, expected in ((np.mean, x.data[0]), (np.var, 0), (np.std, 0)):
        assert (function(x).data, function(x).dtype) == (expected, np.float16)


def test_degrees_of_freedom_that_are_none() -> None:
    """As NumPy does: a warning, and nan or inf."""
    for count in (1, 2):
        x = np.arange(count) + 0.5
        with pytest.warns(RuntimeWarning):
            expected = np.var(x, ddof=2)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(np.var(mg.Tensor(x), ddof=2).data, expected)


def test_where_of_a_condition_alone_gives_its_places() -> None:
    rows, columns = np.where(mg.Tensor(np.eye(2)))
    np.testing.assert_array_equal([rows, columns], [[0, 1], [0, 1]])


@pytest.mark.parametrize("zeros", [[0], [2], [1, 2], [0, 3], range(4)])
def test_cumprod_with_zeros(zeros: Any) -> None:
    x = np.array([2.0, -3.0, 5.0, 7.0])
    x[list(zeros)] = 0
    check_grads(np.cumprod, [x])


@pytest.mark.parametrize("mode", ["mean", "linear_ramp", "maximum", "empty"])
def test_pad_refuses_other_modes(mode: str) -> None:
    with pytest.raises(NotImplementedError, match=f"constant, edge, reflect, symmetric and wrap, not '{mode}'"):
        np.pad(mg.Tensor(np.ones(3)), 1, mode)


@pytest.mark.parametrize("mode", ["reflect", "symmetric"])
def test_pad_never_takes_an_odd_reflection_for_an_even_one(mode: str) -> None:
    x = np.array([1.0, 5.0, 7.0])
    with pytest.raises((NotImplementedError, TypeError), match="reflect_type"):
        np.pad(mg.Tensor(x), 1, mode, reflect_type="odd")
    np.testing.assert_array_equal(np.pad(mg.Tensor(x), 1, mode, reflect_type="even").data, np.pad(x, 1, mode))


@pytest.mark.parametrize("function", sorted(constants - {np.einsum_path}, key=name_of), ids=name_of)
def test_constants_see_arrays(function: Callable[..., Any]) -> None:
    """A function without derivative answers as NumPy does, with no Tensor in the answer."""
    whole = {np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.left_shift, np.right_shift}
    args = [np.array([3, 0, 1]) if function in whole else np.array([3.0, 0.0, 1.0]) for _ in range(2)]
    alone = {np.argmax, np.argmin, np.argsort, np.nonzero, np.flatnonzero, np.count_nonzero, np.argwhere, np.any}
    alone |= {
        np.all,
        np.iscomplexobj,
        np.isrealobj,
        np.shape,
        np.ndim,
        np.size,
        np.zeros_like,
        np.ones_like,
        np.empty_like,
    }
    alone |= {np.array_repr, np.array_str, np.array2string, np.linalg.matrix_rank}
    count = function.nin if isinstance(function, np.ufunc) else 1 if function in alone else 2
    answer = function(*map(mg.Tensor, args[:count]))
    assert not isinstance(answer, mg.Tensor)
    if function is np.empty_like:
        assert (answer.shape, answer.dtype) == (args[0].shape, args[0].dtype)
    else:
        np.testing.assert_equal(answer, function(*args[:count]))
