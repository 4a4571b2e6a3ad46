"""The memory of a program: the order of its axes, and what is written where something else was."""

import re
from itertools import permutations, product
from typing import Any

import numpy as np
import profiles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compile import assert_same, tiny_blocks, weighted

import minigrad as mg
from minigrad.testing import indices, programs

RNG = np.random.default_rng(0)


def in_order(array: np.ndarray, order: Any) -> np.ndarray:
    """The same numbers, with the axes in this order of memory."""
    return np.copy(array.transpose(order), order="C").transpose(np.argsort(order).astype(int))


@tiny_blocks
@settings(max_examples=profiles.scale(10, 1000))
@given(programs(), st.data())
def test_arguments_in_any_order_of_memory(program: Any, data: Any) -> None:
    args = [in_order(a, data.draw(st.permutations(range(a.ndim)))) for a in program.args]
    assert_same(weighted(program), args)


@tiny_blocks
@settings(max_examples=profiles.scale(10, 1000))
@given(st.permutations(range(4)), st.permutations(range(4)), st.integers(0, 4), st.integers(0, 15))
def test_blocks_are_cut_along_the_outermost_axis(first: Any, second: Any, axes: int, ones: int) -> None:
    rng = np.random.default_rng(ones)
    x = in_order(rng.standard_normal((5, 2, 4, 3)), first)
    shape = tuple(1 if ones >> i & 1 else n for i, n in enumerate(x.shape))[4 - axes :]
    y = in_order(rng.standard_normal(shape), [i for i in second if i < axes])
    f = lambda x, y: (np.sin(x) * y - np.tanh(y), np.sum(np.cos(x) * x), np.where(x > y, x * y, y))
    assert_same(weighted(f), [x, y], rounding=400)  # of the sum of so many numbers, in another order


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_what_is_computed_keeps_the_order_of_memory(order: tuple[int, ...]) -> None:
    x = in_order(RNG.standard_normal((2, 3, 4)), order)
    f = lambda x: np.exp(np.sin(x) * 2).transpose(order)
    compiled = mg.compile(f)
    assert compiled(x).flags.c_contiguous
    assert f(x).flags.c_contiguous
    assert (".transpose((" in compiled.source.split("def forward")[0]) == (order != (0, 1, 2))


def with_steps(array: np.ndarray, order: Any, step: int) -> np.ndarray:
    """The same numbers among others, with the axes in this order of memory."""
    among = np.zeros([array.shape[axis] * step for axis in order], array.dtype)[(slice(None, None, step),) * array.ndim]
    among[...] = array.transpose(order)
    return among.transpose(np.argsort(order))


@pytest.mark.parametrize("name", ["negative", "isfinite", "isnan", "sqrt", "square", "rint", "exp", "cos", "sign"])
def test_buffers_in_another_order_than_arguments_with_steps(name: str) -> None:
    """NumPy has found wrong answers of some functions there, in silence: they are given no buffer."""
    for shape, dtype in [((2, 20, 1), "d"), ((2, 2, 1), "f")]:
        x, function = RNG.uniform(1, 2, shape).astype(dtype), getattr(np, name)
        x[0] = np.inf if name == "isfinite" else x[0]
        for number, order in enumerate(permutations(range(3))):
            f = mg.compile(lambda x, function=function: np.sin(function(x) * 2.0))
            for other, step in profiles.some([*product(permutations(range(3)), [1, 2, 4, 8])], 5, number):
                f(in_order(x[::-1], order))  # other numbers, which stay in the buffers where nothing is written
                np.testing.assert_allclose(f(with_steps(x, other, step)), np.sin(function(x) * 2.0), rtol=1e-5)


def test_slices_of_one_array_share_a_gradient() -> None:
    total = mg.compile(lambda x: sum(np.sin(x[i]) * (i + 1) for i in range(8)))
    x = RNG.standard_normal(8)
    tensor = mg.Tensor(x, requires_grad=True)
    total(tensor).backward()
    np.testing.assert_allclose(tensor.grad, np.cos(x) * np.arange(1, 9), rtol=1e-15)
    assert len(re.findall(r"^    (\w+)\[\d\] \+= ", total.source, re.MULTILINE)) == 6
    assert len(re.findall(r"put_add_into\(", total.source)) == 2  # which write zeros first, and to where it is wanted


STEPS = st.tuples(
    st.sampled_from(["sin", "add", "put", "row", "take", "move"]), *[st.integers(0, 99)] * 2, indices((4, 3))
)


@settings(max_examples=profiles.scale(20, 2000))
@given(st.lists(STEPS, min_size=1, max_size=8), st.integers(1, 255))
def test_nothing_is_written_over_that_is_still_needed(steps: list[Any], kept: int) -> None:
    def f(x: Any) -> Any:
        values = [x]
        for step, i, j, index in steps:
            a, b = values[i % len(values)], values[j % len(values)]
            if step == "put":
                part = b[index]
                values.append(mg.put_add(a, index, np.sin(part) if i % 2 else part))
            elif step == "row":
                values.append(mg.put_add(a, [i % 4, j % 4, i % 4], b[i % 4]))
            elif step == "take":
                values.append(a + mg.put_add(np.zeros_like(a), index, b[index]))
            else:
                values.append({"sin": np.sin(a), "add": a + b, "move": a[::-1] * 2}[step])
        return [value for n, value in enumerate(values) if kept >> n & 1] or values[-1]

    assert_same(weighted(f), [np.random.default_rng(kept).standard_normal((4, 3))], rounding=100)


PARTS = ["product", "sum", "sine", "argument", "first", "moved", "constant", "wider", "zeros"]


@settings(max_examples=profiles.scale(30, 1000))
@given(
    st.lists(st.tuples(st.sampled_from(PARTS), st.booleans(), st.booleans()), min_size=1, max_size=5),
    st.sampled_from([0, 1, -1, None]),
    st.booleans(),
)
def test_what_is_joined_is_made_in_its_place(kinds: list[tuple[str, bool, bool]], axis: Any, kept: bool) -> None:
    def f(x: Any, w: Any) -> Any:
        parts, others = [], []
        for i, (kind, is_kept, is_used) in enumerate(kinds):
            y = x * (i + 1.0)
            part = {
                "product": y @ w, "sum": np.sum(y[..., None] * w[:, None], axis=0), "sine": np.sin(y), "argument": x,
                "first": parts[0] if parts else w, "moved": np.exp(y.T).T, "constant": np.full((4, 4), i + 0.5),
                "wider": np.sin(y).reshape(2, 8).reshape(4, 4), "zeros": np.sin(y)[:0].reshape(0, 4),
            }[kind]  # fmt: skip
            parts.append(np.sin(y)[:, :0] if kind == "zeros" and axis in (1, -1) else part)
            others += [parts[-1]] * (is_kept and kind not in ("argument", "first", "constant"))
            others += [np.cos(parts[-1]) * w[:1, :1]] * is_used
        whole = np.concatenate(parts, axis)
        return [whole * 2 - whole, *others, np.sum(x * w)] + [whole] * kept

    rng = np.random.default_rng(len(kinds))
    args = [rng.standard_normal((4, 4)), rng.standard_normal((4, 4))]
    assert_same(weighted(f), args, rounding=100)
    answers = [np.asarray(answer) for answer in mg.compile(f)(*args)]
    for i, answer in enumerate(answers):
        assert not any(np.shares_memory(answer, other) for other in [*answers[:i], *args])


def test_a_step_copies_no_gradients() -> None:
    layers = mg.nn.Linear(2, 3, rng=0), mg.nn.tanh, mg.nn.Linear(3, 1, rng=0)
    model = mg.nn.Sequential(*layers)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)

    @mg.compile
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = np.mean(model(x) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    step(np.ones((4, 2), np.float32))
    assert "concatenate" not in step.source
    gradients = [parameter.grad for parameter in model.parameters()]
    assert len({g.base is None for g in gradients}) == 1
    assert not any(np.shares_memory(a, b) for i, a in enumerate(gradients) for b in gradients[:i])


def test_what_is_returned_may_be_written_over_before_the_way_back() -> None:
    w = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True)

    @mg.compile
    def f(x: Any) -> Any:
        part = x * 2
        return part, np.sum(np.concatenate([part, x * 3.0]) * np.concatenate([w, w]))

    part, loss = f(np.ones(3))
    part[...] = 100
    loss.backward()
    np.testing.assert_array_equal(w.grad, [5.0, 5.0, 5.0])
    assert part.base is None or part.base.size == part.size


@pytest.mark.parametrize("function", [np.isfinite, np.signbit, np.isnan, np.isinf, np.logical_not])
def test_parts_of_booleans(function: Any) -> None:
    x = RNG.standard_normal((16, 1))
    f = lambda x: np.add(np.concatenate([function(x), np.isnan(x)], -1), 0)
    np.testing.assert_array_equal(mg.compile(f)(x), f(x))


RESHAPED = {
    "in two shapes": lambda p: [np.concatenate([p.reshape(16), p[0]]), np.concatenate([p.reshape(8, 2), p[:, :2]])],
    "across the axis": lambda p: [np.concatenate([p.reshape(2, 8), p[:2]], axis=1)],
    "along an axis inside": lambda p: [np.concatenate([p.reshape(2, 2, 4), np.ones((2, 1, 4))], axis=-2)],
}  # fmt: skip


@pytest.mark.parametrize("name", RESHAPED)
def test_what_is_reshaped_before_it_is_joined(name: str) -> None:
    f = lambda x: [whole * 2 for whole in RESHAPED[name](np.sin(x))]
    x = RNG.standard_normal((4, 4))
    for found, wanted in zip(mg.compile(f)(x), f(x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)
