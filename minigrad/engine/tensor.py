"""A Tensor is a node that speaks Python and NumPy: every operator, method and function of arrays becomes a call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter, getitem
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from minigrad.engine import messages
from minigrad.engine.branches import backpropagate
from minigrad.engine.call import apply, call, numbers_of, owners
from minigrad.engine.messages import name_of
from minigrad.engine.node import NO_KWARGS, Array, Function, Node, array_of, constants, mapped, now, vjps
from minigrad.engine.switch import any_mode, is_recording, through

Operator: TypeAlias = Callable[["Tensor", Any], Any]

# ------------------------------------------------------------------------------------------- numbers and gradients

grad_of = attrgetter("_grad")


def look(tensor: Tensor) -> Any:
    """The array of a tensor, for somebody who wants to see its numbers."""
    return tensor._array if any_mode() is None else through("look", array_of, tensor)


def looked_at(value: Any) -> Any:
    """The same structure of lists, tuples and dicts with arrays for Tensors."""
    return mapped(lambda x: look(x) if isinstance(x, Tensor) else x, value)


def set_data(leaf: Tensor, value: ArrayLike) -> None:
    """Give a leaf another array."""
    if leaf.function is not None:
        raise RuntimeError(
            f"the result of {name_of(leaf.function)} cannot be given other data: only leaves (inputs and parameters) "
            "can. Make a new Tensor, or detach() this one first."
        )
    leaf._array, leaf._time = _fitting("data", np.asarray(value, leaf.dtype), leaf), now()


def set_numbers(leaf: Tensor, value: Any) -> None:
    """Write other numbers into the array of a leaf."""
    array = _fitting("data", numbers_of(value), leaf)
    touch([leaf])
    np.copyto(leaf._array, array, casting="same_kind")


def set_grad(tensor: Tensor, value: ArrayLike | None) -> None:
    """Give a tensor another gradient, or none."""
    tensor._grad = None if value is None else _fitting("a gradient", np.asarray(value, tensor.dtype), tensor)


def _fitting(what: str, array: Array, tensor: Tensor) -> Array:
    if array.shape != tensor.shape:
        raise ValueError(
            f"{what} of shape {array.shape} does not fit a tensor of shape {tensor.shape}, which keeps its shape and "
            "dtype: reshape the array, or make a new Tensor."
        )
    return array


def touch(leaves: Iterable[Tensor]) -> None:
    """Say that the numbers of these leaves are changed in place, just now."""
    time = now()
    for leaf in leaves:
        leaf._time = time


def rebind(leaf: Tensor, array: Array) -> None:
    """Keep the numbers of a leaf in other memory, which holds them already: for the graph, nothing changes."""
    leaf._array = array


# ----------------------------------------------------------------------------------------------------- operators


def hand_over(function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run a function as NumPy's users call it, with Tensors also among the keywords."""
    return apply(function, *_checked(function, args, kwargs)) if kwargs else apply(function, args)


def _checked(function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """The arguments of a call in the form that rules expect, with Tensors by position alone."""
    if kwargs.get("out") is not None:
        raise messages.out_given(function)
    if isinstance(kwargs.get("where"), Node):
        kwargs = {**kwargs, "where": numbers_of(kwargs["where"])}
    if isinstance(kwargs.get("initial"), Node) and function in vjps:
        raise messages.initial_given(function)
    if isinstance(function, np.ufunc) and function not in constants and not function.signature:
        if others := kwargs.keys() - {"dtype", "out"}:
            raise messages.options_given(function, [name for name in kwargs if name in others])
        if (dtype := kwargs.get("dtype")) is not None:
            astype = np.ndarray.astype
            args = [call(astype, (a, dtype)) if isinstance(a, Node) else np.asarray(a, dtype) for a in args]
        return args, NO_KWARGS
    if hasattr(function, "__wrapped__") and any(isinstance(value, Node) for value in kwargs.values()):
        bound = inspect.signature(function).bind(*args, **kwargs)
        return bound.args, bound.kwargs
    return args, kwargs


def _is_foreign(kind: type) -> bool:
    """Whether a type decides itself what NumPy's functions and operators make of it."""
    if issubclass(kind, np.ma.MaskedArray):
        raise TypeError(
            "a masked array cannot meet a Tensor, which has no mask: fill it with masked.filled(value), and choose "
            "elements with np.where(mask, a, b) or a sum with where=."
        )
    ours = issubclass(kind, (np.ndarray, np.generic, Node)) or _is_of_pandas(kind)
    return not ours and (hasattr(kind, "__array_ufunc__") or hasattr(kind, "__torch_function__"))


def _is_of_pandas(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "pandas"


def _operand(other: Any) -> Any:
    """What an operator takes the other side for; NotImplemented where that shall decide."""
    if isinstance(other, (list, tuple)) or _is_of_pandas(type(other)):
        return np.asarray(other)
    return NotImplemented if _is_foreign(type(other)) else other


def _operator(function: Function) -> Operator:
    def operator(self: Tensor, other: Any) -> Any:
        if type(other) not in _PLAIN and (other := _operand(other)) is NotImplemented:
            return NotImplemented
        return call(function, (self, other))

    return operator


def _reflected(function: Function) -> Operator:
    def operator(self: Tensor, other: Any) -> Any:
        if type(other) not in _PLAIN and (other := _operand(other)) is NotImplemented:
            return NotImplemented
        return call(function, (other, self))

    return operator


def _in_place(operator: Operator) -> Operator:
    """`p -= g` moves a parameter while nothing is recorded, and everywhere else binds its name to a new tensor."""

    def in_place(self: Tensor, other: Any) -> Any:
        answer = operator(self, other)
        if not self._requires_grad or self.function is not None or answer is NotImplemented or is_recording():
            return answer
        through("write", set_numbers, self, answer)
        return self

    return in_place


def _method(function: Function) -> Callable[..., Any]:
    return functools.wraps(function)(lambda self, *args, **kwargs: hand_over(function, (self, *args), kwargs))


_power = _operator(np.power)
_POWERS: Mapping[Any, Function] = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal}  # as ndarray.__pow__ does


class Tensor(Node):
    """An array plus the call that made it.

    `data` is anything `np.asarray` understands (it is not copied); it must be floating to require a gradient. Every
    NumPy function that has a rule takes Tensors and returns them, and so do the operators and methods of arrays.
    Comparisons give plain boolean arrays.

    >>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> loss = np.sum(x**2)
    >>> loss.backward()
    >>> x.grad
    array([2., 4., 6.])
    """

    __slots__ = ()

    def __init__(self, data: ArrayLike | Tensor, requires_grad: bool = False) -> None:
        self._array = np.asarray(data)
        if self._array.dtype.kind not in "biufc":
            raise TypeError(
                f"a Tensor holds numbers, and this is an array of dtype {self._array.dtype}: convert it first, for "
                "instance with np.asarray(values, dtype=float)."
            )
        self._grad, self._retains, self._time, self._requires_grad = None, False, now(), False
        self.function, self.args, self.kwargs, self.tracked, self._values = None, (), NO_KWARGS, (), ()
        if requires_grad:
            self.requires_grad = True

    # -------------------------------------------------------------------------------------------- attributes

    @property
    def data(self) -> Array:
        """The array. Assigning replaces it, in the same shape and dtype."""
        return self._array if any_mode() is None else through("read", array_of, self)

    @data.setter
    def data(self, value: ArrayLike) -> None:
        through("write", set_data, self, value)

    @property
    def grad(self) -> Array | None:
        """The sum of the gradients of all backward() calls since it was cleared, or None."""
        return self._grad if any_mode() is None else through("read", grad_of, self)

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if value is None and any_mode() is None:
            self._grad = None
        else:
            through("write", set_grad, self, value)

    @property
    def requires_grad(self) -> bool:
        """Whether calls with this tensor are recorded. Assigning freezes a leaf, or thaws it, for calls to come."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        if self.function is not None:
            raise RuntimeError(
                f"the result of {name_of(self.function)} requires a gradient because its arguments do: call detach() "
                "for the same numbers without their history."
            )
        if on and self._array.dtype.kind != "f":
            raise TypeError(
                f"only floating tensors can require a gradient, and this one is {self.dtype}: convert it first, for "
                "instance with Tensor(np.asarray(values, dtype=float), requires_grad=True)."
            )
        self._requires_grad = bool(on)

    # These are called everywhere: attrgetters are fast, and the annotations are what a type checker sees.
    shape: tuple[int, ...] = property(attrgetter("_array.shape"))  # type: ignore[assignment]
    ndim: int = property(attrgetter("_array.ndim"))  # type: ignore[assignment]
    size: int = property(attrgetter("_array.size"))  # type: ignore[assignment]
    dtype: np.dtype[Any] = property(attrgetter("_array.dtype"))  # type: ignore[assignment]

    @property
    def T(self) -> Tensor:
        """The tensor with its axes in reverse order."""
        return call(np.transpose, (self,))

    @property
    def mT(self) -> Tensor:
        """The matrix, or each of a stack of them, transposed."""
        return call(np.swapaxes, (self, -1, -2))

    def item(self) -> Any:
        """The only element as a Python number."""
        return look(self).item()

    def detach(self) -> Tensor:
        """A Tensor on the same memory that requires no gradient and remembers nothing."""
        numbers = numbers_of(self)
        if isinstance(numbers, Tensor):  # a mode had it so
            return numbers
        tensor = Tensor(numbers)
        tensor.args = owners([self], numbers)
        return tensor

    def backward(self, gradient: ArrayLike | None = None, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf it was made of, then free the graph.

        `gradient` is the gradient of this tensor itself, in its shape; a tensor of one element needs none.
        `retain_graph=True` keeps the graph for another backward(). Raises RuntimeError where the tensor requires no
        gradient, the graph was freed or an argument has been changed since the forward pass; no `.grad` changes then.
        An array that `.grad` has given is never written to: a sum is a new array.
        """
        self._must_be_tracked("backward")
        if gradient is None and self._array.size != 1:
            raise ValueError(
                f"backward() starts at a single number, and this tensor has shape {self.shape}: reduce it first "
                "(loss = y.sum()), or say backward(gradient) with an array of that shape."
            )
        data = self._array
        gradient = np.array(1, data.dtype, ndmin=data.ndim) if gradient is None else np.asarray(gradient, data.dtype)
        if gradient.shape != data.shape:
            raise ValueError(f"a gradient of shape {gradient.shape} was given for a tensor of shape {data.shape}.")
        for node, g in backpropagate(self, gradient, free=not retain_graph).items():
            before = node._grad if any_mode() is None else through("read", grad_of, node)
            g = g if before is None else before + g
            if any_mode() is None:
                node._grad = np.asarray(g)
            else:
                through("write", set_grad, node, g)

    def _must_be_tracked(self, what: str) -> None:
        if not self._requires_grad:
            raise RuntimeError(
                f"{what}() of a tensor that requires no gradient: nothing it was made of requires one, or it was made "
                "inside no_grad() or detached. Give the inputs requires_grad=True."
            )

    def retain_grad(self) -> None:
        """Let backward() keep the gradient of this tensor, too, which is the answer of a call; leaves keep theirs."""
        self._must_be_tracked("retain_grad")
        self._retains = True

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    # --------------------------------------------------------------------------------------- NumPy's protocols

    __array_priority__ = 1000.0  # NumPy's scalars then hand over to __rmul__ and the like without the way by a ufunc
    __pandas_priority__ = 10_000  # and so do the objects of pandas

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if len(inputs) > 1:
            inputs = tuple([x if type(x) in _PLAIN else _operand(x) for x in inputs])
            for x in inputs:
                if x is NotImplemented:
                    return NotImplemented
        return hand_over(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function: Function, types: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        for kind in types:
            if kind is not Tensor and _is_foreign(kind):
                return NotImplemented
        return hand_over(function, args, kwargs)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self._requires_grad:
            _refuse("an array")
        return np.array(look(self), dtype=dtype, copy=copy)

    # --------------------------------------------------------------------------------- Python's, in its order

    def __repr__(self) -> str:
        try:
            array = look(self)
        except TypeError:  # under a mode that lets nobody see numbers
            return f"Tensor({self.dtype}{list(self.shape)})"
        numbers = np.array2string(array, separator=", ", prefix="Tensor(", suffix=")")
        dtype = "" if array.dtype in (np.float64, np.int64, np.bool_) else f", dtype={array.dtype}"
        if self.function is not None:
            return f"Tensor({numbers}{dtype}, from {name_of(self.function)})"
        return f"Tensor({numbers}{dtype}{', requires_grad=True' if self._requires_grad else ''})"

    def __reduce__(self) -> Any:
        if self.function is not None:
            raise TypeError("only leaf tensors can be copied or pickled, without their history: use t.detach()")
        return Tensor, (look(self), self._requires_grad)

    def __bool__(self) -> bool:
        if self._array.size != 1:
            raise ValueError(
                f"a tensor of shape {self.shape} is neither true nor false: say np.any(t) or np.all(t), or, to choose "
                "element by element, np.where(condition, a, b)."
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item()) if not self._requires_grad else _refuse("a float")

    def __int__(self) -> int:
        return int(self.item()) if not self._requires_grad else _refuse("an int")

    def __index__(self) -> int:
        return int(look(self).__index__())

    def __format__(self, specification: str) -> str:
        return format(self.item(), specification) if specification else str(self)

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Tensor]:
        if not self._array.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self._array)))

    def __contains__(self, value: Any) -> bool:
        return value in look(self)

    def __getitem__(self, index: Any) -> Tensor:
        if type(index) not in _INDICES:
            index = mapped(lambda x: numbers_of(x) if isinstance(x, Tensor) else x, index)
        return call(getitem, (self, index))

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(
            "a Tensor cannot be changed in place, since the graph still needs its numbers. Make a new one: "
            "t = minigrad.put(t, index, value), or np.where(condition, value, t)."
        )

    __hash__ = object.__hash__

    __add__, __radd__ = _operator(np.add), _reflected(np.add)
    __sub__, __rsub__ = _operator(np.subtract), _reflected(np.subtract)
    __mul__, __rmul__ = _operator(np.multiply), _reflected(np.multiply)
    __truediv__, __rtruediv__ = _operator(np.divide), _reflected(np.divide)
    __floordiv__, __rfloordiv__ = _operator(np.floor_divide), _reflected(np.floor_divide)
    __mod__, __rmod__ = _operator(np.remainder), _reflected(np.remainder)
    __matmul__, __rmatmul__ = _operator(np.matmul), _reflected(np.matmul)
    __rpow__ = _reflected(np.power)

    def __pow__(self, other: Any) -> Any:
        if type(other) in (int, float) and other in _POWERS and self._array.dtype.kind == "f":
            return call(_POWERS[other], (self,))
        return _power(self, other)

    __iadd__, __isub__, __imul__ = _in_place(__add__), _in_place(__sub__), _in_place(__mul__)
    __itruediv__, __ipow__ = _in_place(__truediv__), _in_place(__pow__)

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    __and__, __rand__ = _method(np.bitwise_and), _method(np.bitwise_and)
    __or__, __ror__ = _method(np.bitwise_or), _method(np.bitwise_or)
    __xor__, __rxor__ = _method(np.bitwise_xor), _method(np.bitwise_xor)
    __lshift__, __rshift__ = _method(np.left_shift), _method(np.right_shift)
    __invert__ = _method(np.invert)
    __neg__, __pos__, __abs__ = _method(np.negative), _method(np.positive), _method(np.absolute)
    __eq__, __ne__ = _method(np.equal), _method(np.not_equal)
    __lt__, __le__, __gt__, __ge__ = map(_method, (np.less, np.less_equal, np.greater, np.greater_equal))

    # -------------------------------------------------------------------------------------- methods of ndarray

    sum, mean, var, std = _method(np.sum), _method(np.mean), _method(np.var), _method(np.std)
    max, min, prod, trace = _method(np.max), _method(np.min), _method(np.prod), _method(np.trace)
    cumsum, cumprod, diagonal, copy = _method(np.cumsum), _method(np.cumprod), _method(np.diagonal), _method(np.copy)
    take, choose, searchsorted = _method(np.take), _method(np.choose), _method(np.searchsorted)
    ravel, squeeze, swapaxes = _method(np.ravel), _method(np.squeeze), _method(np.swapaxes)
    flatten, repeat, clip, dot = _method(np.ravel), _method(np.repeat), _method(np.clip), _method(np.dot)
    argmax, argmin, argsort = _method(np.argmax), _method(np.argmin), _method(np.argsort)
    any, all, nonzero, round = _method(np.any), _method(np.all), _method(np.nonzero), _method(np.round)

    def reshape(self, *shape: Any, **options: Any) -> Tensor:
        """The same numbers in another shape, given as integers or as one tuple."""
        return call(np.reshape, (self, shape[0] if len(shape) == 1 else shape), options)

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order, given as integers or as one tuple; reversed when there is none."""
        return call(np.transpose, (self, (axes[0] if len(axes) == 1 else axes) or None))

    def tolist(self) -> Any:
        """The numbers as nested lists, without their history."""
        return look(self).tolist()

    def astype(self, dtype: DTypeLike, *, copy: bool = True) -> Tensor:
        """The same numbers in another dtype; `copy` is accepted for the sake of code for arrays."""
        return call(np.ndarray.astype, (self, dtype))


Node.kind = Tensor
_PLAIN = {Tensor, np.ndarray, float, int, bool, np.float64, np.float32}  # operands and indices that need no look
_INDICES = {int, slice, type(None), type(...)}


def as_tensor(x: Any) -> Tensor:
    """A Tensor, which takes Tensors as indices, while an array does not."""
    return x if isinstance(x, Tensor) else Tensor(x)


def _refuse(kind: str) -> NoReturn:
    raise TypeError(
        f"turning a Tensor that requires a gradient into {kind} would lose its history in silence. To say that it may, "
        "write t.detach() or t.item(); to keep it, use np.stack for several tensors, and NumPy functions or operators "
        "in place of array methods (array @ t for array.dot(t))."
    )
