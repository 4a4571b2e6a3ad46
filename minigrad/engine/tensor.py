"""A Tensor is a node that speaks Python and NumPy: every operator, method and function of arrays becomes a call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter, getitem
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from minigrad.engine.branches import backpropagate
from minigrad.engine.call import NUMBERS, answered, apply, call, call_other, numbers_of, owners
from minigrad.engine.messages import as_array, name_of, refuse, said
from minigrad.engine.switch import any_mode, is_recording, through

from minigrad.engine.node import (  # isort: skip
    NO_KWARGS, Args, Array, Function, Kwargs, Node, array_of, arrays_in, constants, grad_of, has_node, mapped, now,
)  # fmt: skip


def set_data(leaf: Tensor, value: ArrayLike) -> None:
    if leaf.function is not None:
        raise RuntimeError(said("no leaf", leaf.function, what="be given other data"))
    leaf._array, leaf._time = _fitting("data", value, leaf), now()


def set_numbers(leaf: Tensor, value: Any) -> None:
    array = _fitting("data", numbers_of(value), leaf)
    touch([leaf])
    np.copyto(leaf._array, array, casting="same_kind")


def set_grad(tensor: Tensor, value: ArrayLike | None) -> None:
    tensor._grad = None if value is None else _fitting("a gradient", value, tensor)


def set_grads(tensors: Iterable[Tensor], gradients: Iterable[Array]) -> None:
    for tensor, g in zip(tensors, gradients, strict=True):
        tensor._grad = g


def clear(tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        tensor._grad = None


def deposit(gradients: Mapping[Node, Array]) -> None:
    """Add gradients to those that some tensors have; an array that `.grad` has given is never written to."""
    for node, g in gradients.items():
        node._grad = np.asarray(g if node._grad is None else node._grad + g)


def set_requires_grad(leaf: Tensor, on: bool) -> None:
    if on not in (True, False):
        raise TypeError(said("flag", came=on))
    if on and leaf._array.dtype.kind not in "fc":
        raise TypeError(said("not floating", dtype=leaf.dtype))
    leaf._requires_grad = bool(on)
    leaf._retains = leaf._retains or leaf._requires_grad


def _fitting(what: str, value: Any, tensor: Tensor) -> Array:
    array, own = np.asarray(as_array(value)), tensor._array
    if array.shape != own.shape or _RANKS.get(array.dtype.kind, 4) > _RANKS[own.dtype.kind]:
        came, form = (f"shape {x.shape} and dtype {x.dtype}" for x in (array, own))
        raise ValueError(said("other form", what=what, came=came, form=form))
    return array if array.dtype == own.dtype else array.astype(own.dtype)


def touch(leaves: Iterable[Tensor]) -> None:
    """Say that the numbers of these leaves are changed in place, just now."""
    time = now()
    for leaf in leaves:
        leaf._time = time


def rebind(leaf: Tensor, array: Array) -> None:
    """Keep the numbers of a leaf in other memory, which holds them already: for the graph, nothing changes."""
    leaf._array = array


def _method(function: Any) -> Callable[..., Tensor]:
    return functools.wraps(function)(lambda self, *args, **kwargs: apply(function, (self, *args), kwargs))


_Operator: TypeAlias = "Callable[[Tensor, Any], Tensor]"
_constant: Callable[[Any], Function] = _method  # of functions that give plain arrays


def _looking(name: str) -> Callable[..., Any]:
    return functools.wraps(getattr(np.ndarray, name))(lambda self, *args: getattr(look(self), name)(*args))


def _is_foreign(kind: type) -> bool:
    """Whether a type decides itself what NumPy's functions and operators make of it."""
    refuse(kind)
    ours = issubclass(kind, (np.ndarray, np.generic, Node)) or _is_of_pandas(kind)
    return not ours and (hasattr(kind, "__array_ufunc__") or hasattr(kind, "__torch_function__"))


def _operand(other: Any) -> Any:
    """What an operator takes the other side for; NotImplemented where that shall decide."""
    if isinstance(other, (list, tuple)) or _is_of_pandas(type(other)):
        return as_array(other)
    return NotImplemented if _is_foreign(type(other)) else other


def _operators(function: Function) -> tuple[_Operator, _Operator]:
    def operator(self: Tensor, other: Any) -> Any:
        if type(other) not in _PLAIN and (other := _operand(other)) is NotImplemented:
            return NotImplemented
        return call(function, (self, other))

    def reflected(self: Tensor, other: Any) -> Any:
        if type(other) not in _PLAIN and (other := _operand(other)) is NotImplemented:
            return NotImplemented
        return call(function, (other, self))

    return operator, reflected


def _in_place(operator: _Operator) -> _Operator:
    """`p -= g` moves a parameter while nothing is recorded, and everywhere else binds its name to a new tensor."""

    def in_place(self: Tensor, other: Any) -> Any:
        answer = operator(self, other)
        if not self._requires_grad or self.function is not None or answer is NotImplemented or is_recording():
            return answer
        through("write", set_numbers, self, answer)
        return self

    return in_place


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
        self._array = np.asarray(as_array(data))
        if self._array.dtype.kind not in NUMBERS:
            raise TypeError(said("no numbers", dtype=self._array.dtype))
        self._grad, self._retains, self._time = None, False, now()
        self.function, self.args, self.kwargs, self.tracked, self._values = None, (), NO_KWARGS, (), ()
        set_requires_grad(self, requires_grad)

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
        through("write", set_grad, self, value)

    @property
    def requires_grad(self) -> bool:
        """Whether calls with this tensor are recorded. Assigning freezes a leaf, or thaws it, for calls to come."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        if self.function is not None:
            raise RuntimeError(said("no leaf", self.function, what="be frozen or thawed, since its arguments decide"))
        if on is not self._requires_grad:
            through("write", set_requires_grad, self, on)

    # These are called everywhere: attrgetters are fast, and the annotations are what a type checker sees.
    shape: tuple[int, ...] = property(attrgetter("_array.shape"))  # type: ignore[assignment]
    ndim: int = property(attrgetter("_array.ndim"))  # type: ignore[assignment]
    size: int = property(attrgetter("_array.size"))  # type: ignore[assignment]
    dtype: np.dtype[Any] = property(attrgetter("_array.dtype"))  # type: ignore[assignment]
    T: Tensor = property(lambda self: call(np.transpose, (self,)))  # type: ignore[assignment]
    mT: Tensor = property(lambda self: call(np.swapaxes, (self, -1, -2)))  # type: ignore[assignment]
    real: Tensor = property(lambda self: apply(np.real, (self,)))  # type: ignore[assignment]
    imag: Tensor = property(lambda self: apply(np.imag, (self,)))  # type: ignore[assignment]

    def detach(self) -> Tensor:
        """A Tensor on the same memory that requires no gradient and remembers nothing."""
        numbers = numbers_of(self)
        if isinstance(numbers, Tensor):  # a mode had it so
            return numbers
        return answered(None, owners([self], numbers), NO_KWARGS, numbers, (), (), False)

    def backward(self, gradient: ArrayLike | None = None, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf it was made of, then free the graph.

        `gradient` is the gradient of this tensor itself, in its shape; a tensor of one element needs none.
        `retain_graph=True` keeps the graph for another backward(). Raises RuntimeError where the tensor requires no
        gradient, the graph was freed or an argument has been changed since the forward pass; no `.grad` changes then.
        An array that `.grad` has given is never written to: a sum is a new array.
        """
        if not self._requires_grad:
            raise RuntimeError(said("no gradient", what="backward"))
        if gradient is None and self._array.size != 1:
            raise ValueError(said("no number", shape=self.shape))
        if gradient is None and self.dtype.kind == "c":
            raise TypeError(said("not real", dtype=self.dtype))
        if gradient is not None:
            gradient = _fitting("a gradient", gradient, self)
        through("write", deposit, backpropagate(self, gradient, free=not retain_graph))

    def retain_grad(self) -> None:
        """Let backward() keep the gradient of this tensor, too, which is the answer of a call; leaves keep theirs."""
        if not self._requires_grad:
            raise RuntimeError(said("no gradient", what="retain_grad"))
        self._retains = True

    def zero_grad(self) -> None:
        """Forget the gradient."""
        through("write", clear, [self])

    __array_priority__ = 1000.0  # NumPy's scalars then hand over to __rmul__ and the like without the way by a ufunc
    __pandas_priority__ = 10_000  # and so do the objects of pandas

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if len(inputs) > 1:
            inputs = tuple([x if type(x) in _PLAIN else _operand(x) for x in inputs])
            for x in inputs:
                if x is NotImplemented:
                    return NotImplemented
        return apply(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function: Function, types: Any, args: Args, kwargs: Kwargs) -> Any:
        for kind in types:
            if kind is not Tensor and _is_foreign(kind):
                return NotImplemented
        return apply(function, args, kwargs)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self._without_history("an array"), dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self._without_history("a DLPack capsule", BufferError).__dlpack__(**options)

    def _without_history(self, what: str, error: type[Exception] = TypeError) -> Any:
        if self._requires_grad:
            raise error(said("history", what=what))
        return look(self)

    def __repr__(self) -> str:
        try:
            array = look(self)
        except TypeError:  # under a mode that lets nobody see numbers
            return f"Tensor({self.dtype}{list(self.shape)})"
        numbers = np.array2string(array, separator=", ", prefix="Tensor(", suffix=")")
        dtype = "" if array.dtype in (np.float64, np.int64, np.bool_) else f", dtype={array.dtype}"
        history = f", from {name_of(self.function)}" if self.function else ", requires_grad=True"
        return f"Tensor({numbers}{dtype}{history if self._requires_grad else ''})"

    def __reduce__(self) -> Any:
        if self.function is not None:
            raise TypeError(said("copied"))
        return Tensor, (look(self), self._requires_grad), (None, {"_grad": self.grad, "_retains": self._retains})

    def __bool__(self) -> bool:
        if self._array.size != 1:
            raise ValueError(said("truth", shape=self.shape))
        return bool(self.item())

    def __iter__(self) -> Iterator[Tensor]:
        if not self._array.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self._array)))

    def __getitem__(self, index: Any) -> Tensor:
        if type(index) not in _INDICES:
            index = mapped(_index, index)
        return call(getitem, (self, index))

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(said("in place"))

    device = "cpu"
    __array_namespace__: Function = lambda self, **options: self._array.__array_namespace__(**options)
    __dlpack_device__: Function = lambda self: self._array.__dlpack_device__()
    __hash__ = object.__hash__
    __len__ = lambda self: len(self._array)
    __float__ = lambda self: float(self._without_history("a float").item())
    __format__: Function = lambda self, form: format(self.item(), form) if form else str(self)
    __int__ = lambda self: int(self._without_history("an int").item())
    __contains__, __index__, item, tolist = map(_looking, ("__contains__", "__index__", "item", "tolist"))
    __add__, __radd__ = _operators(np.add)
    __sub__, __rsub__ = _operators(np.subtract)
    __mul__, __rmul__ = _operators(np.multiply)
    __truediv__, __rtruediv__ = _operators(np.divide)
    __floordiv__, __rfloordiv__ = _operators(np.floor_divide)
    __mod__, __rmod__ = _operators(np.remainder)
    __matmul__, __rmatmul__ = _operators(np.matmul)
    _power, __rpow__ = _operators(np.power)

    def __pow__(self, other: Any) -> Tensor:
        if type(other) in (int, float) and other in _POWERS and self._array.dtype.kind == "f":
            return call(_POWERS[other], (self,))
        return self._power(other)

    __iadd__, __isub__, __imul__, __itruediv__ = map(_in_place, (__add__, __sub__, __mul__, __truediv__))
    __ifloordiv__, __imod__, __imatmul__, __ipow__ = map(_in_place, (__floordiv__, __mod__, __matmul__, __pow__))
    __divmod__ = lambda self, other: (self // other, self % other)
    __rdivmod__ = lambda self, other: (other // self, other % self)
    __and__ = __rand__ = _method(np.bitwise_and)
    __or__ = __ror__ = _method(np.bitwise_or)
    __xor__ = __rxor__ = _method(np.bitwise_xor)
    __lshift__, __rshift__, __invert__ = map(_method, (np.left_shift, np.right_shift, np.invert))
    __neg__, __pos__, __abs__ = map(_method, (np.negative, np.positive, np.absolute))
    __eq__, __ne__ = map(_constant, (np.equal, np.not_equal))
    __lt__, __le__, __gt__, __ge__ = map(_constant, (np.less, np.less_equal, np.greater, np.greater_equal))
    sum, mean, var, std, max, min = map(_method, (np.sum, np.mean, np.var, np.std, np.max, np.min))
    prod, cumsum, cumprod, trace, diagonal = map(_method, (np.prod, np.cumsum, np.cumprod, np.trace, np.diagonal))
    argmax, argmin, argsort, nonzero = map(_constant, (np.argmax, np.argmin, np.argsort, np.nonzero))
    any, all, searchsorted = map(_constant, (np.any, np.all, np.searchsorted))
    take, choose, clip, dot = map(_method, (np.take, np.choose, np.clip, np.dot))
    ravel, flatten, squeeze, swapaxes = map(_method, (np.ravel, np.ravel, np.squeeze, np.swapaxes))
    repeat, copy, round = map(_method, (np.repeat, np.copy, np.round))
    conj = conjugate = _method(np.conjugate)

    def reshape(self, *shape: Any, **options: Any) -> Tensor:
        """The same numbers in another shape, given as integers or as one tuple."""
        return (call_other if options else call)(np.reshape, (self, shape[0] if len(shape) == 1 else shape), options)

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order, given as integers or as one tuple; reversed when there is none."""
        return call(np.transpose, (self, (axes[0] if len(axes) == 1 else axes) or None))

    def astype(self, dtype: DTypeLike, *, copy: bool = True) -> Tensor:
        """The same numbers in another dtype; `copy` is accepted for the sake of code for arrays."""
        return call(np.ndarray.astype, (self, dtype))


Node.kind = Tensor
_PLAIN = {Tensor, np.ndarray, float, int, bool, np.float64, np.float32}  # operands and indices that need no look
_POWERS: Mapping[Any, Function] = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal}  # as ndarray.__pow__ does
_INDICES = {int, slice, type(None), type(...)}
_index: Function = lambda x: numbers_of(x) if isinstance(x, Node) else refuse(type(x)) or x
_RANKS = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}  # of the kinds of dtypes: what is of a higher one loses something
_is_of_pandas = lambda kind: kind.__module__.partition(".")[0] == "pandas"
look: Function = lambda tensor: tensor._array if any_mode() is None else through("look", array_of, tensor)
looked_at = functools.partial(arrays_in, of=look)
as_tensor: Callable[[Any], Tensor] = lambda x: x if isinstance(x, Tensor) else Tensor(x)


def constant(function: Function) -> Function:
    """Let an array function that has no derivative take Tensors, and give arrays for them."""
    constants.add(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = has_node((*args, *kwargs.values()))
        return call_other(function, args, kwargs) if given else function(*args, **kwargs)

    return wrapper
