"""Functions of functions: a function of arrays becomes the function that computes its derivatives. They nest.

Arguments are arrays, or dicts, lists, tuples and dataclasses of arrays, nested as one likes; gradients come in the same
structure. Arrays in, arrays out; given a Tensor, or called inside a function that is being differentiated, Tensors come
out, which can be differentiated again: by the argument, and by whatever else the function made use of, such as weights.

`argnums` is the position of the argument to differentiate by, or a tuple of positions.
"""

import functools
import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np

from minigrad.engine import (  # isort: skip
    NO_KWARGS, Array, Function, Masks, Rules, Tensor, answered, array_of, arrays_in, as_array, as_tensor, backpropagate,
    call, call_other, composites, differentiating, history, is_inside, is_recording, mode, name_of, now, numbers_of, on,
    recording, shortcuts, time_of, users_line, vjps, walk,
)  # fmt: skip
from minigrad.sample import Samples
from minigrad.tables.linalg import taken_apart
from minigrad.tables.rules import put
from minigrad.trees import aligned, branches, flatten

ArgNums: TypeAlias = "int | tuple[int, ...]"
P = ParamSpec("P")
R = TypeVar("R")


def value_and_grad(f: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False) -> Callable[P, tuple[Any, Any]]:
    """The function that returns `f(*args)` and its gradient with respect to the arguments at `argnums`.

    `f` returns one number, also as an array of one element; with `has_aux` a pair of it and anything else, which is
    handed on. The gradient has the structure, shapes and dtypes of its argument (a tuple of them when `argnums` is
    one), and is zero where `f` does not depend on it. Raises TypeError for answers other than one real number, and
    arguments that are not floating.

    >>> value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    >>> value_and_grad(lambda p: p["a"] * p["b"])({"a": 2.0, "b": 3.0})
    (array(6.), {'a': array(3.), 'b': array(2.)})
    """
    _checked(f, argnums)

    @functools.wraps(f)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> tuple[Any, Any]:
        result = Differentiated(f, args, kwargs, argnums, has_aux)
        if (value := result.value).size != 1 or value.dtype.kind == "c":
            raise TypeError(
                f"grad needs a function that returns a single real number, and this one returned {value.dtype} of "
                f"shape {value.shape}: reduce it, for instance with np.sum, or use jacobian or elementwise_grad. Of a "
                "complex number, say np.abs(f(z)); or np.real(f(z)): its gradient is f'(z) where f is holomorphic."
            )
        gradient = result.pullback(np.ones(result.value.shape, result.value.dtype))
        return (result.answer, result.aux) if has_aux else result.answer, gradient

    return wrapper


def grad(f: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False) -> Callable[P, Any]:
    """The function that returns the gradient of `f`, with `has_aux` a pair of it and the rest; see `value_and_grad`.

    >>> grad(np.sin)(0.0)
    array(1.)
    >>> grad(grad(grad(lambda x: x**3)))(2.0)
    array(6.)
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapper


def elementwise_grad(f: Callable[P, Any], argnums: ArgNums = 0) -> Callable[P, Any]:
    """The derivative of `f`, which works element by element, for all elements at once.

    >>> elementwise_grad(np.sin)(np.array([0.0, np.pi])).round(12)
    array([ 1., -1.])
    """
    _checked(f, argnums)
    return grad(functools.wraps(f)(lambda *args, **kwargs: np.sum(f(*args, **kwargs))), argnums)


# -------------------------------------------------------------------------------------------- maps and matrices


def vjp(f: Function, *primals: Any) -> tuple[Any, Function]:
    """`f(*primals)`, and the pullback: from the gradient of the answer to those of the primals, as a tuple.

    >>> out, pullback = vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    result = Differentiated(_checked(f), primals, {}, tuple(range(len(primals))))
    return result.answer, result.pullback


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """`f(*primals)`, and how it changes when the primals move along the `tangents`, which have their structure.

    Both are tuples, with one item for each argument: the same keys, types, nesting and shapes. The pullback is linear
    in the gradient it is given; its own pullback is the derivative forward.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 10.0))
    (array(6.), array(23.))
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        given = " and ".join(type(part).__name__ for part in (primals, tangents))
        raise TypeError(f"jvp takes its primals and its tangents as tuples, jvp(f, (x,), (v,)), and got {given}")
    flat = _like(tuple(primals), tuple(tangents))
    result = Differentiated(_checked(f), tuple(primals), {}, tuple(range(len(primals))))
    seed = Tensor(np.zeros(result.value.shape, result.value.dtype), requires_grad=True)
    with recording(True):
        pairs = zip(flat, result.pullback_leaves(seed, record=True), strict=True)
        total = sum((np.real(np.sum(v * g)) for v, g in pairs), Tensor(0.0))
    nested = result.nested or not all(map(is_array, flat))
    moved = _gradients(total, np.ones((), total.dtype), [seed], nested)[0]
    return result.answer, _out(moved, nested)


def hvp(f: Function, argnums: ArgNums = 0, *more: Any) -> Function:
    """The function that returns the Hessian of `f` times a vector, `hvp(f)(x, v)`, which is `hessian(f)(x) @ v`.

    The Hessian is never made. The vector comes after the arguments of `f`, and has the structure and the shapes of the
    argument at `argnums` (a tuple of them when `argnums` is one); so has the product.

    >>> hvp(lambda x: np.sum(x**3))(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    if more:
        raise TypeError("hvp is called as hessian is, hvp(f)(x, v), or hvp(f, argnums)(x, y, v)")
    _checked(f, argnums)

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if len(args) < 2:
            raise TypeError("hvp takes the arguments of the function, and then the vector, as in hvp(f)(x, v)")
        *args, vector = args  # type: ignore[assignment]
        flat = _like(_at(argnums, args), vector)

        def along(*args: Any) -> Any:
            leaves = flatten(grad(f, argnums)(*args, **kwargs))[0]
            return sum(np.real(np.sum(v * g)) for v, g in zip(flat, leaves, strict=True))

        return grad(along, argnums)(*args)

    return wrapper


def jacobian(f: Callable[P, Any], argnums: ArgNums = 0) -> Callable[P, Any]:
    """The function that returns all derivatives of `f`, in the shape of its answer followed by that of the argument.

    Where the answer is complex, so are they: of a real argument, those of both parts; a complex argument has one only
    where `f` is holomorphic, and else a TypeError says so (take `np.real` and `np.imag` of the answer apart). Where the
    answer alone is real, they are gradients as `grad` gives them.

    >>> jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    _checked(f, argnums)

    @functools.wraps(f)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        result = Differentiated(f, args, kwargs, argnums)
        shape, dtype = result.value.shape, result.value.dtype
        rows = [result.derivatives(put(np.zeros(shape, dtype), index, 1)) for index in np.ndindex(shape)]
        stacks = map(np.stack, zip(*rows, strict=True)) if rows else (np.zeros(0, x.dtype) for x in result.leaves)
        columns = [np.reshape(stack, shape + x.shape) for stack, x in zip(stacks, result.leaves, strict=True)]
        return result.rebuild([_out(column, result.nested) for column in columns])

    return wrapper


def hessian(f: Callable[P, Any], argnums: int = 0) -> Callable[P, Any]:
    """The function that returns all second derivatives of `f` with respect to one argument, which is an array.

    >>> hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    by_f = jacobian(grad(f, argnums), argnums)

    @functools.wraps(f)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        if branches(_at(argnums, args)) is not None:
            raise TypeError("hessian takes derivatives by one array: join all in one, or use hvp for structures")
        return by_f(*args, **kwargs)

    return wrapper


# -------------------------------------------------------------------------------------------------- checkpoint


def checkpoint(f: Callable[P, R]) -> Callable[P, R]:
    """`f`, remembering only its arguments: what lies between is computed again when it is differentiated.

    Time is traded for memory (Chen et al., 2016, arXiv:1604.06174). `f` returns an array, or a structure of arrays.
    Gradients reach the Tensors that it closes over, too, and what it draws by `minigrad.sample` is the same again.
    Raises RuntimeError where the second answer is another one.

    >>> grad(checkpoint(lambda x: np.sin(np.sin(x))))(0.0)
    array(1.)
    """
    _checked(f)

    @functools.wraps(f)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return call_other(checkpointed, (f, *args), kwargs)  # type: ignore[no-any-return]

    return wrapper


class Recomputation:
    """A call of which only the arguments are remembered: to be differentiated, it is made once more."""

    __slots__ = ()

    inputs: Sequence[Tensor]  # the arguments, those that the function closes over, too; all require a gradient
    may_choose = True  # whether numbers may be left out in it, as np.where does
    exact = True  # whether the second answer equals the first to the last bit
    line = ""  # where the user made it

    def __call__(self) -> Tensor:
        """Make the call with the same tensors, and return the answer with its history."""
        raise NotImplementedError

    def gradients(self, g: Any) -> Sequence[Any] | None:
        """The gradients of the inputs for that of the answer, where they are known without making the call again."""
        return None

    def differentiate(self, g: Any, ans: Any, mask: Any = None, masks: Masks | None = None) -> list[Any]:
        """The gradients of the inputs, from the history of the second answer."""
        frozen = [tensor for tensor in self.inputs if not tensor.requires_grad]  # since the call was made
        for tensor in frozen:
            tensor.requires_grad = True
        try:
            with recording(True):
                answer = self()
        finally:
            for tensor in frozen:
                tensor.requires_grad = False
        if self.exact and not np.array_equal(array_of(answer), arrays_in(ans), equal_nan=True):
            raise RuntimeError(
                f"the checkpointed function called in {self.line} gave another answer when it was run again, so the "
                "gradient would be wrong: an array that it reads was written to, or it is random. Draw random numbers "
                "by minigrad.sample, or give them to it as an argument."
            )
        recorded, targets = isinstance(ans, Tensor), frozenset(self.inputs)
        if masks is None:
            found = backpropagate(answer, g, targets, recorded)
        else:
            masks.masks[answer] = mask
            found = walk(history(answer, targets), answer, g, recorded, step=masks)
        return [found.get(tensor) for tensor in self.inputs]


class RecomputationRule:
    """The joint rule of all recomputations, which knows how to walk with masks."""

    def __call__(self, g: Any, ans: Any, *args: Any, call: Recomputation, may_choose: bool) -> Sequence[Any]:
        known = None if isinstance(ans, Tensor) else call.gradients(g)
        return call.differentiate(g, ans) if known is None else known

    def masked(self, g: Any, ans: Any, mask: Any, masks: Masks, call: Recomputation, may_choose: bool) -> Sequence[Any]:
        return call.differentiate(g, ans, mask, masks)


def recomputed(*args: Any, call: Recomputation, may_choose: bool) -> Any:
    """The function of recomputations in the graph."""
    return array_of(call())


vjps[recomputed] = Rules(joint=RecomputationRule())
vjps[recomputed].new = True


def recomputable(call: Recomputation, answer: Array) -> Tensor:
    """The answer of a call, which remembers no more than how to make the call again."""
    options = {"call": call, "may_choose": call.may_choose}
    return answered(recomputed, call.inputs, options, answer, range(len(call.inputs)), ())


class CheckpointedCall(Recomputation):
    """A call of a checkpointed function, with what it has drawn."""

    def __init__(self, f: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.f, self.args, self.kwargs, self.line = f, args, kwargs, users_line()
        self.samples = Samples()

    def first(self) -> Any:
        with on(self.samples):
            return self.f(*self.args, **self.kwargs)

    def __call__(self) -> Any:
        with on(Samples(self.samples.drawn)):
            return Answer(self.f(*self.args, **self.kwargs)).total


def checkpointed(f: Function, *args: Any, **kwargs: Any) -> Any:
    """The answer of `f`, without the calls that it was made by."""
    if not is_recording():
        return f(*args, **kwargs)
    start, call = now(), CheckpointedCall(f, args, kwargs)
    answer = Answer(call.first())
    if answer.tracked:
        call.inputs = older([answer.total], start, start)
        parts = split(recomputable(call, numbers_of(answer.total)), answer.kinds)
        for i, part in zip(answer.tracked, parts, strict=True):
            answer.leaves[i] = part
    return answer.rebuild(answer.leaves)


composites[checkpointed] = checkpointed
shortcuts[checkpointed] = lambda f, *args, **kwargs: f(*args, **kwargs)  # a program has no use for checkpoints


class Answer:
    """What a function has returned: its leaves, and one Tensor of all numbers in those that require a gradient."""

    def __init__(self, answer: Any) -> None:
        self.leaves, self.rebuild = flatten(answer)
        self.tracked = [i for i, x in enumerate(self.leaves) if isinstance(x, Tensor) and x.requires_grad]
        some = [self.leaves[i] for i in self.tracked]
        self.kinds = [(x.shape, x.dtype) for x in some]
        self.total: Any = some[0] if len(some) == 1 else np.concatenate([np.ravel(x) for x in some]) if some else None


def split(total: Tensor, kinds: Sequence[tuple[tuple[int, ...], Any]]) -> list[Tensor]:
    """Tensors of some shapes and dtypes, of one Tensor of all their numbers."""
    if len(kinds) == 1:
        return [total]
    pieces = taken_apart(total, [shape for shape, _ in kinds])
    pairs = zip(pieces, (dtype for _, dtype in kinds), strict=True)
    return [(piece if dtype.kind == "c" else np.real(piece)).astype(dtype) for piece, dtype in pairs]


def older(answers: Iterable[Any], start: int, first: int) -> list[Tensor]:
    """The tensors that some answers depend on, that require a gradient, and that were there before.

    Leaves are older than `start` then, and calls older than `first`, the first call: where a mode gives known calls for
    new ones, these have times of their own.
    """
    is_old: Function = lambda tensor: time_of(tensor) < (start if tensor.function is None else first)
    found = [answer for answer in answers if isinstance(answer, Tensor) and answer.requires_grad]
    seen = dict.fromkeys(found)
    for tensor in found:  # which grows on the way
        if not is_old(tensor):
            arguments = [(tensor.args or ())[position] for position in tensor.tracked]
            found += [argument for argument in arguments if argument not in seen]
            seen.update(dict.fromkeys(arguments))
    return list(filter(is_old, seen))


# --------------------------------------------------------------------------------------------------- machinery


def _checked(f: Any, argnums: Any = 0) -> Any:
    """The function, if it is one, and the positions are."""
    if not callable(f):
        raise TypeError(f"a function is differentiated, and not {reprlib.repr(f)}: write grad(f)(x), or x.backward()")
    positions = argnums if isinstance(argnums, tuple) else (argnums,)
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in positions):
        raise TypeError(
            f"argnums is the position of an argument, or a tuple of positions, and not {reprlib.repr(argnums)}: the "
            "arguments themselves come after it, as in grad(f)(x)"
        )
    return f


def _at(argnums: ArgNums, args: Sequence[Any]) -> Any:
    """The argument at a position, or a tuple of those at some."""
    positions = argnums if isinstance(argnums, tuple) else (argnums,)
    if not all(-len(args) <= position < len(args) for position in positions):
        raise TypeError(f"argnums={argnums}, but the function was called with {len(args)} positional arguments")
    if len({position % len(args) for position in positions}) < len(positions):
        raise TypeError(f"argnums={argnums} names one argument twice: name each once")
    return tuple(args[position] for position in positions) if isinstance(argnums, tuple) else args[argnums]


class Differentiated:
    """A call of a function: its value, the tensors that stand for the arguments, and the pullback."""

    def __init__(
        self, f: Function, args: tuple[Any, ...], kwargs: dict[str, Any], argnums: ArgNums, has_aux: bool = False
    ) -> None:
        positions = argnums if isinstance(argnums, tuple) else (argnums,)
        given, self.rebuild = flatten(_at(argnums, args))
        inside, start = is_inside(), now()
        self.leaves = [variable(leaf) for leaf in given]
        first = min(map(time_of, self.leaves), default=start)
        tree = self.rebuild(self.leaves)
        arguments = list(args)
        for position, part in zip(positions, tree if isinstance(argnums, tuple) else (tree,), strict=True):
            arguments[position] = part
        with differentiating, recording(True):
            value = f(*arguments, **kwargs)
        if has_aux and not (isinstance(value, (tuple, list)) and len(value) == 2):
            raise TypeError(f"with has_aux, {name_of(f)} returns a pair, (number, rest), and it returned {value!r}")
        value, aux = value if has_aux else (value, None)
        leaves, rebuild = flatten(aux)
        # Tensors come out where Tensors were given, and inside of another differentiated function, where the answer
        # depends on what that one is differentiated by.
        self.nested = not all(map(is_array, given)) or (inside and bool(older([value, *leaves], start, first)))
        self.aux = rebuild([_out(x, self.nested) if isinstance(x, Tensor) else x for x in leaves])
        value = float(value) if type(value) is int else value  # a constant of Python's
        if branches(value):
            raise TypeError(
                f"{name_of(f)} returned a {type(value).__name__}, and derivatives are those of one array: join its "
                "parts by np.stack or np.concatenate, or hand on what needs no derivative with grad(f, has_aux=True)."
            )
        if not isinstance(value, (Tensor, np.ndarray, np.generic, float, complex)):
            raise TypeError(
                f"derivatives are of numbers, and {name_of(f)} returned {value!r}: does it return its answer?"
            )
        self.value = as_tensor(value)
        if (dtype := self.value.dtype).kind not in "fc":
            raise TypeError(f"only floating answers have derivatives, and this function returned {dtype}")
        self.answer = _out(self.value, self.nested)

    def pullback_leaves(self, g: Any, record: bool = False) -> list[Any]:
        """The gradients of the leaves, for the gradient `g` of the value."""
        shape, g = self.value.shape, as_array(g)
        if g.shape != shape or g.dtype.kind not in "biufc" or (g.dtype.kind == "c" != self.value.dtype.kind):
            came = f"shape {g.shape}" if g.shape != shape else f"dtype {g.dtype}, which does not fit {self.value.dtype}"
            raise ValueError(f"the pullback of an answer of shape {shape} got a gradient of {came}")
        return _gradients(self.value, g, self.leaves, record or self.nested or isinstance(g, Tensor))

    def derivatives(self, one: Any) -> list[Any]:
        """The derivatives of the element of the value where `one` is 1."""
        reals = self.pullback_leaves(one)
        if self.value.dtype.kind != "c":
            return reals
        imags = [1j * part for part in self.pullback_leaves(one * -1j)]  # of a holomorphic function the same as reals
        triples = list(zip(self.leaves, reals, imags, strict=True))
        for x, *parts in triples:
            a, b = (array_of(as_tensor(part)) for part in parts)
            if x.dtype.kind == "c" and not np.allclose(a, b, rtol=1e3 * np.finfo(a.dtype).eps, equal_nan=True):
                raise TypeError(
                    "a complex answer has derivatives by a complex argument only where the function is "
                    "holomorphic, and this one is not: take np.real and np.imag of its answer apart."
                )
        return [real if x.dtype.kind == "c" else real + imag for x, real, imag in triples]

    def pullback(self, g: Any) -> Any:
        """The gradients of the arguments in their structure, for the gradient `g` of the value."""
        nested = self.nested or not is_array(g)
        return self.rebuild([_out(x, nested) for x in self.pullback_leaves(g)])


def _gradients(value: Tensor, g: Any, leaves: list[Tensor], record: bool) -> list[Any]:
    """The gradients of some tensors, zero for those that `value` does not depend on."""
    answers: dict[Any, Any] = {}
    if value.requires_grad:
        g = g.astype(value.dtype) if isinstance(g, Tensor) else np.asarray(g, value.dtype)
        answers = backpropagate(value, g, frozenset(leaves), record)
    return [answers[leaf] if leaf in answers else np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]


def argument(x: Any) -> Any:
    """The function of the calls that give variables."""
    return x


vjps[argument] = (lambda g, ans, x: g,)


def variable(x: Any) -> Tensor:
    """A tensor to differentiate by, with the numbers of `x`; it remembers `x` where that is a Tensor with a history."""
    # It is no leaf, so nothing that is done to it in place reaches the memory of `x`.
    numbers = numbers_of(x)
    if numbers.dtype.kind not in "fc":
        raise TypeError(f"only floating arguments have derivatives, and this one is {numbers.dtype}: convert it first.")
    if mode() or isinstance(x, Tensor):
        with recording(True):
            shown = call(argument, (x,))  # which a mode that traces tracks in any case
        if shown.requires_grad:
            return shown
    return answered(argument, (), NO_KWARGS, numbers, (), ())


def is_array(x: Any) -> bool:
    """Whether `x` is no Tensor, or one that a mode has put in place of an array."""
    here = mode()
    return not isinstance(x, Tensor) or (here is not None and here.is_array(x))


def _out(x: Any, as_tensor: bool) -> Any:
    """An array that nobody else has; or a Tensor, where one is wanted or a mode gives nothing else."""
    if as_tensor or isinstance(x, np.ndarray):  # which comes of a walk back
        return x if isinstance(x, Tensor) or not as_tensor else Tensor(x)
    numbers = numbers_of(x)  # a Tensor where they are traced
    return numbers if isinstance(numbers, Tensor) else np.array(numbers)


def _like(primals: Any, tangents: Any) -> list[Any]:
    """The leaves of the tangents, which must be structured and shaped like the primals, as arrays."""
    flat = [as_array(leaf) for leaf in aligned(primals, tangents, "tangents")]
    wanted, given = [np.shape(leaf) for leaf in flatten(primals)[0]], [leaf.shape for leaf in flat]
    if given != wanted:
        raise ValueError(f"tangents are shaped like the primals, {wanted}, and these have the shapes {given}")
    kinds = ["biufc" if np.iscomplexobj(leaf) else "biuf" for leaf in flatten(primals)[0]]
    if wrong := [leaf.dtype for leaf, kind in zip(flat, kinds, strict=True) if leaf.dtype.kind not in kind]:
        raise TypeError(f"tangents are numbers of the kind of the primals, and not of dtype {wrong[0]}")
    return flat
