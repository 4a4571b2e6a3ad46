"""The engine: what a Tensor says to Python and NumPy, what it refuses, and the walk back through graphs."""

import asyncio
import contextlib
import copy
import gc
import math
import operator
import pickle
import sys
import threading
import tracemalloc
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from profiles import scale

import minigrad as mg
from minigrad.engine import name_of


def leaf(data: Any = (1.0, 2.0, 3.0), dtype: Any = None) -> mg.Tensor:
    return mg.Tensor(np.array(data, dtype), requires_grad=True)


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------ messages that help


def walked_twice() -> None:
    loss = np.sum(leaf() ** 2)
    loss.backward()
    loss.backward()


def assigned_in_place() -> None:
    leaf()[0] = 1


def assigned_to_an_array() -> None:
    array = np.zeros(3)
    array[:] = leaf()


def added_to_an_array() -> None:
    array = np.zeros(3)
    array += leaf()


def truth_of_many() -> None:
    if leaf():
        pass


def truth_of_a_comparison() -> None:
    if leaf() > 0:
        pass


def other_data_for_a_result() -> None:
    (leaf() * 2).data = np.zeros(3)


def requires_grad_of_a_result() -> None:
    (leaf() * 2).requires_grad = False


def data_of_another_shape() -> None:
    leaf().data = np.zeros(4)


def grad_of_another_shape() -> None:
    leaf().grad = np.zeros(4)


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


ones = np.ones
messages = [  # what, how, the error, words of the message
    ("backward, not scalar", lambda: (leaf() * 2).backward(), ValueError,
     ["(3,)", "loss = y.sum()", "backward(gradient)"]),
    ("backward, no gradient", lambda: mg.Tensor(1.0).backward(), RuntimeError,
     ["requires no gradient", "requires_grad=True"]),
    ("backward, twice", walked_twice, RuntimeError, ["walked by backward() before", "retain_graph=True", "every step"]),
    ("backward, shape", lambda: (leaf() * 2).backward(ones(4)), ValueError, ["(4,)", "(3,)"]),
    ("matmul", lambda: leaf(ones((3, 4))) @ ones((5, 6)), ValueError,
     ["np.matmul", "[3, 4]", "[5, 6]", "last axis", ".T"]),
    ("broadcast", lambda: leaf() + ones(4), ValueError,
     ["np.add", "float64[3]", "[4]", "aligned from the last", "x[:, None]"]),
    ("index", lambda: leaf()[5], IndexError, ["getitem", "float64[3]", "5", "out of bounds"]),
    ("integers", lambda: leaf([1, 2]), TypeError, ["only floating", "int64", "dtype=float"]),
    ("booleans", lambda: leaf([True]), TypeError, ["only floating", "bool"]),
    ("text", lambda: mg.Tensor(["a"]), TypeError, ["holds numbers", "dtype=float"]),
    ("objects", lambda: mg.Tensor([None]), TypeError, ["holds numbers", "object"]),
    ("records", lambda: mg.Tensor(np.zeros(2, [("x", float)])), TypeError, ["holds numbers"]),
    ("np.asarray", lambda: np.asarray(leaf()), TypeError, ["an array", "t.detach()"]),
    ("float", lambda: float(leaf(1.0)), TypeError, ["a float", "t.item()"]),
    ("int", lambda: int(leaf(1.0)), TypeError, ["an int", "t.item()"]),
    ("np.array of two", lambda: np.array([leaf(), leaf()]), TypeError, ["np.stack"]),
    ("np.array of two, 0-d", lambda: np.array([leaf(1.0), leaf(2.0)]), TypeError, ["np.stack"]),
    ("np.asarray, dtype", lambda: np.asarray([leaf(1.0)], dtype=float), TypeError, ["np.stack"]),
    ("array.dot", lambda: ones(3).dot(leaf()), TypeError, ["array @ t"]),
    ("array[:] = t", assigned_to_an_array, TypeError, ["lose its history", "minigrad.put(z, i, t) for z[i] = t"]),
    ("math.exp", lambda: math.exp(leaf(1.0)), TypeError, ["a float", "np.exp(t) for math.exp(t)"]),
    ("masked - t", lambda: np.ma.ones(3) - leaf(), TypeError, ["masked.filled(value) for a masked array"]),
    ("t[0] = 1", assigned_in_place, TypeError,
     ["in place", "minigrad.put(t, index, value)", "np.where(condition, value, t)"]),
    ("array += t", added_to_an_array, TypeError, ["np.add", "out=", "a = a + t"]),
    ("out=", lambda: np.sum(leaf(), out=np.zeros(())), TypeError, ["np.sum", "out="]),
    ("out= of a ufunc", lambda: np.exp(leaf(), out=np.zeros(3)), TypeError, ["np.exp", "out="]),
    ("where= of a ufunc", lambda: np.log(leaf(), where=ones(3, bool)), TypeError,
     ["np.log", "where=", "np.where(condition"]),
    ("if t", truth_of_many, ValueError, ["(3,)", "np.any(t)", "np.where(condition, a, b)"]),
    ("if t > 0", truth_of_a_comparison, ValueError, ["truth value"]),
    ("unknown ufunc", lambda: np.frompyfunc(abs, 1, 1)(leaf()), NotImplementedError, ["abs", "minigrad.primitive("]),
    ("reduceat", lambda: np.add.reduceat(leaf(), [0, 2]), TypeError, ["np.add.reduceat", "reduce(t[start:stop])"]),
    ("initial=", lambda: np.max(leaf(), initial=leaf(1.0)), TypeError, ["np.max", "initial=", "np.maximum(np.max(x)"]),
    ("concatenate", lambda: np.stack([leaf(), ones(2)]), ValueError, ["concatenate", "[1, 3]", "[1, 2]"]),
    ("unknown ufunc method", lambda: np.subtract.reduce(leaf()), NotImplementedError, ["np.subtract.reduce"]),
    ("data of a result", other_data_for_a_result, RuntimeError, ["np.multiply", "only leaves", "detach()"]),
    ("requires_grad of a result", requires_grad_of_a_result, RuntimeError, ["np.multiply", "detach()"]),
    ("data, shape", data_of_another_shape, ValueError, ["(4,)", "(3,)"]),
    ("grad, shape", grad_of_another_shape, ValueError, ["(4,)", "(3,)"]),
    ("copying a result", lambda: copy.deepcopy(leaf() * 2), TypeError, ["leaf", "plt.plot", "t.detach()"]),
    ("iteration over 0-d", lambda: list(leaf(1.0)), TypeError, ["0-d"]),
    ("len of 0-d", lambda: len(leaf(1.0)), TypeError, ["unsized"]),
    ("no_grad of a generator", lambda: mg.no_grad(generator), TypeError,
     ["generator is a generator function", "its caller", "`with` block inside it"]),
    ("no_grad of an async generator", lambda: mg.no_grad()(async_generator), TypeError, ["async_generator is a"]),
    ("no_grad of a number", lambda: mg.no_grad(3), TypeError, ["a function, not 3", "`with` block"]),
    ("primitive, no rule", lambda: mg.primitive()(np.sin), TypeError, ["one rule for each", "@primitive(lambda g"]),
    ("primitive, not a rule", lambda: mg.primitive(3), TypeError, ["(g, ans, *args)", "None", "3"]),
]  # fmt: skip


def test_functions_have_the_names_that_their_users_know(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [*map(name_of, (np.sin, np.add.reduce, np.linalg.solve, np.fft.fft))] == [
        "np.sin", "np.add.reduce", "np.linalg.solve", "np.fft.fft"]  # fmt: skip
    ours, library = np.frompyfunc(max, 2, 1), types.ModuleType("library.special")
    monkeypatch.setitem(sys.modules, "missing", None)
    assert name_of(ours) == "max (vectorized)"
    monkeypatch.setitem(sys.modules, "mine", types.ModuleType("mine"))
    setattr(sys.modules["mine"], ours.__name__, ours)
    assert name_of(ours) == "mine.max (vectorized)"
    setattr(library, ours.__name__, ours)
    names = ["library.special._core", "library.special", "library.special.more", "other._private", "__main__", "mine"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, library)
    assert name_of(ours) == "library.special.max (vectorized)"
    with pytest.raises(NotImplementedError, match=r"library\.special\.max .* has no derivative in minigrad yet"):
        ours(leaf(), 1.0)
    assert name_of(ours.reduce) == "library.special.max (vectorized).reduce"
    special = pytest.importorskip("scipy.special")
    assert name_of(special.erf) == "scipy.special.erf"


@pytest.mark.parametrize(("act", "kind", "words"), [pytest.param(*row[1:], id=row[0]) for row in messages])
def test_message(act: Callable[[], Any], kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        act()
    for word in words:
        assert word in str(caught.value)


# --------------------------------------------------------------------------------------------------------- primitives


def test_primitive_takes_part_in_everything(scratch_primitive: Callable[..., Any]) -> None:
    @scratch_primitive(lambda g, ans, x, y, *, n: g * n * x ** (n - 1) * y, lambda g, ans, x, y, *, n: g * x**n)
    def monomial(x: Any, y: Any, *, n: int) -> Any:
        """x**n * y"""
        return x**n * y

    assert monomial.__doc__ == "x**n * y"
    assert type(monomial(np.ones(2), 2.0, n=3)) is np.ndarray
    np.testing.assert_array_equal(mg.grad(lambda x: np.sum(monomial(x, 5.0, n=3)))(np.array([1.0, 2.0])), [15, 60])
    assert mg.grad(mg.grad(lambda x: monomial(x, 5.0, n=3)))(2.0) == 60
    assert mg.grad(lambda y: np.sum(monomial(np.ones(4), y, n=3)))(2.0) == 4


def test_primitive_without_a_derivative_by_one_argument(scratch_primitive: Callable[..., Any]) -> None:
    scaled = scratch_primitive(lambda g, ans, x, y: g * y, None)(lambda x, y: x * y)
    np.testing.assert_array_equal(mg.grad(lambda x, y: scaled(x, y), (0, 1))(2.0, 3.0), (3, 0))


def test_primitive_with_a_tensor_by_keyword(scratch_primitive: Callable[..., Any]) -> None:
    scaled = scratch_primitive(lambda g, ans, x, y: g * y)(lambda x, y: x * y)
    with pytest.raises(TypeError, match="Tensor y= by keyword: pass it by position"):
        scaled(2.0, y=leaf(3.0))


def test_primitive_with_too_few_rules(scratch_primitive: Callable[..., Any]) -> None:
    def scaled(x: Any, y: Any) -> Any:
        return x * y

    answer = scratch_primitive(lambda g, ans, x, y: g * y)(scaled)(2.0, leaf(3.0))
    with pytest.raises(NotImplementedError, match=r"scaled has 1 rules, so none for its argument 1.*None"):
        answer.backward()


@pytest.mark.parametrize("shape", [(2,), (3, 4), (), (1,)])
def test_primitive_whose_rule_returns_the_wrong_shape(scratch_primitive: Callable[..., Any], shape: Any) -> None:
    def doubled(x: Any) -> Any:
        return 2 * x

    answer = scratch_primitive(lambda g, ans, x: np.ones(shape))(doubled)(leaf())
    with pytest.raises(ValueError, match=r"rule 0 of doubled returned a gradient of shape \(.*\) for .* shape \(3,\)"):
        answer.backward(np.ones(3))


def test_keyword_tensors_of_numpy_functions_count() -> None:
    x = leaf()
    np.sum(np.sum(a=x * x)).backward()
    np.testing.assert_array_equal(x.grad, 2 * x.data)


# ------------------------------------------------------------------------------------------------- leaves and gradients


def test_gradients_add_up_until_cleared() -> None:
    x = leaf()
    for n in (1, 2, 3):
        np.sum(x**2).backward()
        np.testing.assert_array_equal(x.grad, n * 2 * x.data)
    x.zero_grad()
    assert x.grad is None
    np.sum(x**2).backward()
    np.testing.assert_array_equal(x.grad, 2 * x.data)


def test_retain_graph() -> None:
    x = leaf()
    loss = np.sum(x**2)
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_array_equal(x.grad, 4 * x.data)
    with pytest.raises(RuntimeError, match="retain_graph"):
        loss.backward()


def test_a_graph_that_shares_a_freed_part_says_so() -> None:
    x = leaf()
    shared = x * 2
    first, second = np.sum(shared), np.sum(shared**2)
    first.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        second.backward()
    np.testing.assert_array_equal(x.grad, 2)


def test_backward_from_an_array_and_from_a_leaf() -> None:
    x = leaf()
    (x * x).backward([1.0, 0.0, 10.0])
    np.testing.assert_array_equal(x.grad, [2, 0, 60])
    y = leaf(3.0)
    y.backward()
    assert y.grad == 1


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_backward_from_one_element(shape: Any) -> None:
    x = leaf(np.full(shape, 3.0))
    (x * x).backward()
    np.testing.assert_array_equal(x.grad, np.full(shape, 6.0))


def test_gradients_are_the_leaf_s_own() -> None:
    x, y = leaf(), leaf()
    np.sum(x + y).backward()
    x.grad += 1
    np.testing.assert_array_equal(y.grad, 1)
    given = np.ones(3)
    (z := leaf()).backward(given)
    z.grad += 1
    np.testing.assert_array_equal(given, 1)


def test_only_leaves_that_want_one_get_a_gradient() -> None:
    x, y = leaf(), mg.Tensor([1.0, 2.0, 3.0])
    z = x * y
    np.sum(z).backward()
    assert x.grad is not None
    assert y.grad is z.grad is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_a_gradient_has_the_dtype_of_its_tensor(dtype: Any) -> None:
    x = leaf(dtype=dtype)
    np.sum(x * np.ones(3) * np.arange(3) * True * np.float64(2)).backward()
    assert x.grad.dtype == dtype
    x.grad = [1, 2, 3]
    assert x.grad.dtype == dtype
    x.data = np.zeros(3, np.float64)
    assert x.data.dtype == dtype


def test_attributes() -> None:
    x = leaf(np.ones((2, 3), np.float32))
    assert (x.shape, x.ndim, x.size, x.dtype, x.requires_grad, x.grad) == ((2, 3), 2, 6, np.float32, True, None)
    assert (x.T.shape, leaf(2.5).item(), type(leaf(2.5).item())) == ((3, 2), 2.5, float)
    assert np.shares_memory(x.detach().data, x.data)
    assert not x.detach().requires_grad
    x.requires_grad = False
    assert not (x * 2).requires_grad


def test_python_floats_become_what_numpy_makes_of_them() -> None:
    assert mg.Tensor([1.0, 2.0]).dtype == np.float64
    assert mg.Tensor(mg.Tensor(np.float32(1))).dtype == np.float32
    assert mg.Tensor([1, 2]).dtype == np.asarray([1, 2]).dtype


# ------------------------------------------------------------------------- changes between the forward and the backward


def changed_by_data(w: mg.Tensor) -> None:
    w.data = w.data + 1


def changed_by_augmented_data(w: mg.Tensor) -> None:
    w.data -= 0.1


@pytest.mark.parametrize("change", [changed_by_data, changed_by_augmented_data])
def test_a_change_in_between_raises_and_changes_no_gradient(change: Callable[[mg.Tensor], None]) -> None:
    w, v = leaf(), leaf()
    v.grad = np.ones(3)
    loss = np.sum(np.tanh(v) * w + w)
    change(w)
    with pytest.raises(RuntimeError, match=r"float64\[3\] tensor that np\.\w+ used has been changed since"):
        loss.backward()
    assert w.grad is None
    np.testing.assert_array_equal(v.grad, 1)


def test_a_change_after_the_backward_is_the_usual_loop() -> None:
    w = leaf()
    for _ in range(3):
        w.zero_grad()
        np.sum(w**2).backward()
        w.data -= 0.1 * w.grad
    np.testing.assert_allclose(w.data, 0.8**3 * np.array([1.0, 2.0, 3.0]))


# -------------------------------------------------------------------------------------------------------------- no_grad


def test_no_grad_in_a_block_and_as_decorator() -> None:
    x = leaf()
    with mg.no_grad():
        assert not (x * 2).requires_grad
        with mg.no_grad():
            pass
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @mg.no_grad()
    def countdown(n: int) -> mg.Tensor:
        return x * n if n == 0 else countdown(n - 1)

    for _ in range(2):
        assert not countdown(3).requires_grad
        assert (x * 2).requires_grad


def test_one_no_grad_serves_many_blocks() -> None:
    x, block = leaf(), mg.no_grad()
    for _ in range(2):
        with block:
            with block:
                assert not (x * 2).requires_grad
            assert not (x * 2).requires_grad
        assert (x * 2).requires_grad


def test_no_grad_decorates_with_and_without_brackets() -> None:
    x = leaf()

    def double() -> mg.Tensor:
        """twice x"""
        return x * 2

    for decorated in (mg.no_grad(double), mg.no_grad()(double)):
        assert not decorated().requires_grad
        assert (decorated.__name__, decorated.__doc__) == ("double", "twice x")
        assert double().requires_grad


def test_no_grad_decorates_an_async_function() -> None:
    x = leaf()

    @mg.no_grad
    async def twice() -> list[bool]:
        before = (x * 2).requires_grad
        await asyncio.sleep(0)
        return [before, (x * 2).requires_grad]

    async def main() -> list[Any]:
        async def outside() -> bool:
            await asyncio.sleep(0)
            return (x * 2).requires_grad

        return [await twice(), (x * 2).requires_grad, *await asyncio.gather(twice(), outside())]

    assert asyncio.run(main()) == [[False, False], True, [False, False], True]


def test_no_grad_ends_with_an_error() -> None:
    with pytest.raises(KeyError), mg.no_grad():
        raise KeyError
    assert (leaf() * 2).requires_grad


def test_no_grad_is_for_one_thread() -> None:
    x, entered, done, seen = leaf(), threading.Event(), threading.Event(), []

    def other() -> None:
        seen.append((x * 2).requires_grad)
        with mg.no_grad():
            entered.set()
            done.wait(10)
            seen.append((x * 2).requires_grad)

    with mg.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
    assert entered.wait(10)
    seen.append((x * 2).requires_grad)
    done.set()
    thread.join()
    assert seen == [True, True, False]


def test_no_grad_is_for_one_task() -> None:
    x = leaf()

    async def main() -> list[bool]:
        entered, done = asyncio.Event(), asyncio.Event()

        async def inside() -> bool:
            with mg.no_grad():
                entered.set()
                await done.wait()
                return (x * 2).requires_grad

        async def outside() -> bool:
            await entered.wait()
            recorded = (x * 2).requires_grad
            done.set()
            return recorded

        return list(await asyncio.gather(inside(), outside()))

    assert asyncio.run(main()) == [False, True]


# ----------------------------------------------------------------------------------- operators and methods like NumPy's

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
OPERANDS = [
    3, 2, 0.5, 1.5, -1, 2.0, True, np.float32(1.5), np.float64(3), np.int8(3), np.array(2.5), [0.5, 1.0, 2.0],
    np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0], np.float32), np.array([[3], [4]]), np.array([True,
    True, False]),
]  # fmt: skip


def same(answer: Any, expected: Any) -> None:
    """Bit for bit the same numbers, in the same dtype."""
    assert isinstance(answer, mg.Tensor)
    assert answer.dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(answer.data, expected)


@pytest.mark.parametrize("operation", BINARY, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("other", OPERANDS, ids=repr)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_operators(operation: Callable[..., Any], dtype: Any, other: Any) -> None:
    """Of a Tensor with a scalar, an array or a Tensor, on either side, they promote and round as NumPy does."""
    array = np.array([4, 1, 2], dtype)
    x = mg.Tensor(array)
    try:
        expected, reflected = operation(array, other), operation(other, array)
    except (ValueError, TypeError) as error:  # integers to negative powers, booleans subtracted
        with pytest.raises(type(error)):
            (operation(x, other), operation(other, x))
        return
    same(operation(x, other), expected)
    same(operation(other, x), reflected)
    if isinstance(other, np.ndarray):
        same(operation(x, mg.Tensor(other)), expected)
        same(operation(array, mg.Tensor(other)), expected)


@pytest.mark.parametrize(
    "operation", [*BINARY, operator.matmul, np.hypot, np.arctan2, np.maximum], ids=lambda f: f.__name__
)
def test_lists_are_operands_of_operators_and_ufuncs(operation: Callable[..., Any]) -> None:
    """On either side, they have the gradients that arrays have."""
    x, numbers = np.array([1.5, 2.0, 3.0]), [0.0, 1.0, 2.0]
    by_first, by_second = (mg.grad(lambda x, y: np.sum(operation(x, y)), i) for i in (0, 1))
    shifted = [n + 1 for n in numbers]
    np.testing.assert_array_equal(by_first(x, shifted), by_first(x, np.array(shifted)))
    np.testing.assert_array_equal(by_second(numbers, x), by_second(np.array(numbers), x))


@pytest.mark.parametrize("operation", COMPARISONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("other", OPERANDS, ids=repr)
def test_comparisons_give_plain_arrays(operation: Callable[..., Any], other: Any) -> None:
    array = np.array([4.0, 1.0, 2.0])
    expected = operation(array, np.asarray(other))
    others = [other, mg.Tensor(other)]
    for answer in [operation(leaf(array), o) for o in others] + [operation(array, mg.Tensor(other))]:
        assert type(answer) is np.ndarray
        np.testing.assert_array_equal(answer, expected)
        assert answer.dtype == bool


def test_the_other_operators() -> None:
    array = np.array([[-1.5, 2.0], [3.0, -4.0]])
    x = mg.Tensor(array)
    for operation in (operator.neg, operator.pos, abs):
        same(operation(x), operation(array))
    for other in (array, [1.0, 2.0]):
        same(x @ other, array @ other)
        same(other @ x, other @ array)
    for answers, expected in ((divmod(x, 0.7), divmod(array, 0.7)), (divmod(0.7, x), divmod(0.7, array))):
        for answer, one in zip(answers, expected, strict=True):
            same(answer, one)


def test_augmented_assignment_rebinds() -> None:
    for operation in (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, operator.imatmul):
        x = leaf()
        before = x.data.copy()
        y = operation(x, np.array([2.0, 3.0, 4.0]))
        assert y is not x
        assert y.requires_grad
        np.testing.assert_array_equal(x.data, before)


def test_array_and_tensor_commute() -> None:
    x, array = leaf([[1.0], [2.0]]), np.array([3.0, 4.0], np.float32)
    same(array + x, (x + array).data)
    same(np.add(array, x), np.add(x, array).data)
    assert mg.grad(lambda x: np.sum(array + x))(1.0) == mg.grad(lambda x: np.sum(x + array))(1.0) == 2


METHODS = [
    ("sum", {}), ("sum", {"axis": 0}), ("mean", {"axis": 1, "keepdims": True}), ("var", {"ddof": 1}), ("std",
    {"axis": -1}),
    ("max", {}), ("max", {"axis": 0}), ("min", {"axis": (0, 1)}), ("prod", {"axis": 1}), ("cumsum", {}), ("cumsum",
    {"axis": 1}),
    ("ravel", {}), ("flatten", {}), ("squeeze", {}), ("repeat", {"repeats": 2, "axis": 0}), ("transpose", {}),
    ("round", {}),
    ("argmax", {}), ("argmin", {"axis": 1}), ("argsort", {}), ("any", {}), ("all", {"axis": 0}), ("nonzero", {}),
    ("astype", {"dtype": np.float32}), ("astype", {"dtype": int}), ("clip", {"min": -1, "max": 1}),
]  # fmt: skip
POSITIONAL = [
    ("reshape", (3, 2)), ("reshape", ((3, 2),)), ("reshape", (-1,)), ("transpose", (1, 0)), ("transpose", ((1, 0),)),
    ("swapaxes", (0, 1)), ("clip", (-1, 1)), ("clip", (0,)), ("clip", (None, 0)), ("dot", (np.ones((3, 2)),)), ("dot",
    (2.0,)),
    ("sum", (1,)), ("squeeze", ()), ("repeat", ([1, 2],  0)), ("astype", ("float32",)), ("round", (1,)), ("prod", (0,)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [(name, (), kwargs) for name, kwargs in METHODS] + [(name, args, {}) for name, args in POSITIONAL],
)
def test_methods(name: str, args: Any, kwargs: Any) -> None:
    array = np.array([[-1.5, 2.25, 0.0], [3.0, -4.0, 0.5]])
    answer, expected = getattr(mg.Tensor(array), name)(*args, **kwargs), getattr(array, name)(*args, **kwargs)
    if isinstance(answer, mg.Tensor):
        assert answer.dtype == expected.dtype
        answer = answer.data
    np.testing.assert_allclose(answer, expected, rtol=1e-15)
    assert np.shape(answer) == np.shape(expected)


def test_answers_that_are_not_floating_need_no_gradient() -> None:
    assert not leaf().astype(int).requires_grad
    assert np.floor_divide(leaf(), 2).requires_grad


# --------------------------------------------------------------------------------------------------- Python's protocols


def test_hash_and_equality() -> None:
    x, y = leaf(), leaf()
    assert {x: 1, y: 2}[x] == 1
    assert len({x, y, x}) == 2
    assert 2.0 in x
    assert 5.0 not in x


def test_length_iteration_and_truth() -> None:
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    first, second = x
    assert len(x) == 2
    np.sum(first * second).backward()
    np.testing.assert_array_equal(x.grad, [[3, 4], [1, 2]])
    assert leaf(1.0)
    assert not leaf([[0.0]])
    assert [10, 20, 30][mg.Tensor(1)] == 20
    assert (float(mg.Tensor(2.5)), int(mg.Tensor(2.5))) == (2.5, 2)
    np.testing.assert_array_equal(np.asarray(mg.Tensor([1, 2])), [1, 2])


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (mg.Tensor(1.0), "Tensor(1.)"),
        (mg.Tensor([1, 2]), "Tensor([1, 2])"),
        (leaf([1.0, 2.0]), "Tensor([1., 2.], requires_grad=True)"),
        (leaf(1.5, np.float32), "Tensor(1.5, dtype=float32, requires_grad=True)"),
        (leaf([1.0, 2.0]) * 2, "Tensor([2., 4.], from np.multiply)"),
        (leaf([1.0, 2.0])[0], "Tensor(1., from getitem)"),
        (mg.Tensor(np.zeros((0, 3))), "Tensor([])"),
        (mg.Tensor(np.eye(2)), "Tensor([[1., 0.],\n        [0., 1.]])"),
    ],
)
def test_repr(tensor: mg.Tensor, text: str) -> None:
    assert repr(tensor) == text


def test_repr_of_a_large_tensor_is_short() -> None:
    assert len(repr(mg.Tensor(np.zeros((1000, 1000))))) < 1000


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_leaves_can_be_copied_and_pickled(copied: Callable[[mg.Tensor], mg.Tensor], requires_grad: bool) -> None:
    x = mg.Tensor(np.array([1.0, 2.0], np.float32), requires_grad=requires_grad)
    y = copied(x)
    assert (y.requires_grad, y.dtype) == (requires_grad, np.float32)
    np.testing.assert_array_equal(y.data, x.data)
    assert copied is copy.copy or not np.shares_memory(x.data, y.data)


@pytest.mark.parametrize(
    ("function", "name"),
    [(np.sin, "np.sin"), (np.sum, "np.sum"), (np.add.reduce, "np.add.reduce"), (np.linalg.inv, "np.linalg.inv"),
     (operator.getitem, "getitem"), (mg.put, "put")],
)  # fmt: skip
def test_functions_are_called_by_the_name_that_readers_know(function: Callable[..., Any], name: str) -> None:
    assert name_of(function) == name


# ----------------------------------------------------------------------------------------- deep, wide and random graphs


def chain(x: mg.Tensor, length: int) -> mg.Tensor:
    for _ in range(length):
        x = x + 1.0
    return x


def test_a_chain_of_very_many_calls() -> None:
    calls = scale(100_000, 1_000_000)
    with no_garbage_collection():
        x = leaf(0.0)
        y = chain(x, calls)
        assert y.item() == calls
        y.backward()
        assert x.grad == 1


def test_a_long_chain_is_freed_unwalked() -> None:
    with no_garbage_collection():
        x = leaf(0.0)
        middle = chain(x, 100_000)
        seen = weakref.ref(middle)
        y = chain(middle, 100_000)
        del middle
        assert seen() is not None
        del y
        assert seen() is None


def test_a_long_chain_is_differentiated_twice() -> None:
    def f(x: Any) -> Any:
        for _ in range(3_000):
            x = x * 1.0
        return x * x

    assert mg.grad(mg.grad(f))(3.0) == 2


def test_doubling_sixty_times_is_exact_and_fast() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad == 2.0**60


def test_many_uses_of_one_tensor() -> None:
    x = leaf(1.0)
    y = sum(x * float(i) for i in range(10_000))
    y.backward()
    assert x.grad == sum(range(10_000))
    joined = np.stack([x] * 1_000)
    np.sum(joined).backward()
    assert x.grad == sum(range(10_000)) + 1_000


@pytest.mark.parametrize("walk", [lambda y: None, lambda y: y.backward(), lambda y: y.backward(retain_graph=True)])
def test_graphs_are_freed_by_counting_references(walk: Callable[[mg.Tensor], None]) -> None:
    with no_garbage_collection():
        x = leaf()
        hidden = np.tanh(x * x)
        loss = np.sum(hidden * hidden)
        seen = [weakref.ref(tensor) for tensor in (hidden, loss)]
        walk(loss)
        del hidden, loss
        assert [ref() for ref in seen] == [None, None]


def test_the_walk_frees_the_graph_though_the_loss_lives_on() -> None:
    with no_garbage_collection():
        x = leaf()
        hidden = np.tanh(x)
        seen = weakref.ref(hidden)
        loss = np.sum(hidden)
        del hidden
        loss.backward()
        assert seen() is None


def test_grad_leaves_nothing_behind() -> None:
    seen = []

    def f(x: Any) -> Any:
        y = np.tanh(x)
        seen.append(weakref.ref(y))
        return np.sum(y * y)

    with no_garbage_collection():
        mg.grad(f)(np.ones(3))
        mg.grad(lambda x: np.sum(mg.grad(f)(x)))(np.ones(3))
        assert [ref() for ref in seen] == [None, None]


def test_gradients_of_intermediates_are_freed_during_the_walk() -> None:
    array = np.ones(50_000)
    x = leaf(array)
    y = x
    tracemalloc.start()
    try:
        for _ in range(60):
            y = np.negative(y)
        loss = np.sum(y)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        loss.backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - before < 6 * array.nbytes


class Dual:
    """A number and its derivative, exactly: forward mode over Python's integers, or over Duals of them."""

    def __init__(self, value: Any, slope: Any) -> None:
        self.value, self.slope = value, slope

    def __add__(self, other: "Dual") -> "Dual":
        return Dual(self.value + other.value, self.slope + other.slope)

    def __sub__(self, other: "Dual") -> "Dual":
        return Dual(self.value - other.value, self.slope - other.slope)

    def __mul__(self, other: "Dual") -> "Dual":
        return Dual(self.value * other.value, self.slope * other.value + self.value * other.slope)


Program = list[tuple[str, int, int]]
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
programs = st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=30)


def run(program: Program, inputs: list[Any], without_signs: bool = False) -> Any:
    """Each line takes two numbers that are there already, counted from the last, and adds one; so they are shared."""
    numbers = list(inputs)
    for name, i, j in program:
        operation = operator.add if without_signs and name == "-" else OPERATIONS[name]
        numbers.append(operation(numbers[-1 - i % len(numbers)], numbers[-1 - j % len(numbers)]))
    return numbers[-1]


def slopes(program: Program, values: list[int], without_signs: bool = False) -> tuple[list[int], list[list[int]]]:
    """All first and second derivatives."""
    n = range(len(values))
    seeds = [[Dual(Dual(v, int(k == i)), Dual(int(k == j), 0)) for k, v in enumerate(values)] for i in n for j in n]
    answers = [run(program, seed, without_signs) for seed in seeds]
    second = [answer.slope.slope for answer in answers]
    first = [answers[i * len(values)].value.slope for i in n]
    return first, [second[i * len(values) : (i + 1) * len(values)] for i in n]


@settings(max_examples=5 * settings().max_examples)
@given(programs, st.lists(st.integers(-3, 3), min_size=1, max_size=3))
def test_random_graphs_agree_with_exact_integers(program: Program, values: list[int]) -> None:
    bound = run(program, [Dual(Dual(max(1, abs(v)), 1), Dual(1, 1)) for v in values], without_signs=True)
    assume(bound.slope.slope < 2**50)  # else the doubles would round
    first, second = slopes(program, values)

    tensors = [leaf(float(v)) for v in values]
    answer = run(program, tensors)
    assert answer.item() == run(program, values)
    answer.backward()
    assert [0 if t.grad is None else t.grad for t in tensors] == first

    f = lambda *xs: run(program, list(xs))
    every = tuple(range(len(values)))
    points = [float(v) for v in values]
    assert list(mg.grad(f, every)(*points)) == first
    assert [list(mg.grad(lambda *xs, i=i: mg.grad(f, every)(*xs)[i], every)(*points)) for i in every] == second


# ------------------------------------------------------------------------------------------ memory that is shared


def untracked(view: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return mg.no_grad()(view)


@pytest.mark.parametrize(
    "view",
    [
        lambda w: w.detach(),
        lambda w: w.T.detach(),
        lambda w: w.detach().T,
        untracked(lambda w: w.T),
        untracked(lambda w: w[0]),
        untracked(lambda w: w.T.reshape(2, 2)[:, :1].T),
    ],
)
def test_a_parameter_that_changes_under_a_view_is_noticed(view: Callable[[Any], Any]) -> None:
    w, x = (mg.Tensor(np.ones(shape), requires_grad=True) for shape in ((2, 2), 2))
    part = view(w)
    before = np.sum(x * part)
    w.grad = np.ones((2, 2))
    mg.optim.SGD([w], 1.0).step()
    with pytest.raises(RuntimeError, match="has been changed"):
        before.backward()
    np.sum(x * view(w)).backward()  # what is computed from now on is right


def test_a_view_in_an_inference_loop_holds_on_to_parameters_alone() -> None:
    w = mg.Tensor(np.ones((2, 2)), requires_grad=True)
    with mg.no_grad():
        hidden = w @ w
        assert hidden.T.args == ()
        assert w.T.args == (w,)


def test_rules_of_the_wrong_kind() -> None:
    with pytest.raises(TypeError, match=r"\(g, ans, x, \.\.\.\), and this one takes \(g, x\)"):
        mg.primitive(lambda g, x: g)
    nothing = mg.primitive(lambda g, ans, x: g)(lambda x: None)
    with pytest.raises(TypeError, match="gave an answer of dtype object"):
        nothing(mg.Tensor(1.0, requires_grad=True))


def test_more_methods_of_arrays() -> None:
    x = mg.Tensor(np.arange(6.0).reshape(1, 2, 3), requires_grad=True)
    assert x.mT.shape == (1, 3, 2)
    assert x.astype(np.float32, copy=False).dtype == np.float32
