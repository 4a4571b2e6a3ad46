"""Products of arrays, and numpy.linalg: few rules, and the rest spelled with them.

Vocabulary and manners are those of `minigrad.tables.rules`; every function takes stacks of matrices where NumPy does.
What NumPy does not read has no influence: of a matrix that `cholesky` or `eigh` takes for symmetric it reads one
triangle, and the gradient is zero in the other one. Spell it `(a + a.T) / 2`, and the gradient is symmetric, too.

Vectors of equal singular values or eigenvalues, or of a singular value 0, have no derivative: the gradient of what is
made of them is inf or nan, or anything where they are equal but for rounding. The gradient of what is made of the
values alone is finite all the same (`svdvals`, `eigvalsh`, norms); equal values share it as they come.

The formulas are those of
    M. Giles, Collected matrix derivative results for forward and reverse mode AD, 2008 (inv, det, solve)
    G. Golub and V. Pereyra, The differentiation of pseudo-inverses, 1973 (pinv, lstsq, where the rank is constant)
    I. Murray, Differentiation of the Cholesky decomposition, 2016 (cholesky)
    J. Townsend, Differentiating the singular value decomposition, 2016 (svd, and eigh in the same way)
    S. Walter and L. Lehmann, Algorithmic differentiation of linear algebra functions, 2010 (qr)
"""

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.linalg import LinAlgError

from minigrad.engine import (  # isort: skip
    Function, as_array, call, composites, constant, constants, numbers_of, unbroadcast, users_line, vjps,
)  # fmt: skip
from minigrad.tables.composites import adjoint, composite, conjugate, squared
from minigrad.tables.primitive import primitive
from minigrad.tables.rules import axes_of, flipped, on_diagonal, root

# ----------------------------------------------------------------------------------------------------- products

LETTERS = ascii_uppercase + ascii_lowercase  # the order in which NumPy numbers and sorts indices


def _terms(args, position):
    """The operands of an einsum, the one in question, and the indices of each and of the answer, without dots."""
    if isinstance(args[0], str):
        text, operands, i = args[0].replace(" ", ""), args[1:], position - 1
    else:  # einsum(x, [0, 1], y, [1, 2], [0, 2])
        term = lambda indices: "".join("..." if index is ... else LETTERS[index] for index in indices)
        text, operands, i = ",".join(map(term, args[1::2])), args[: len(args) // 2 * 2 : 2], position // 2
        text += f"->{term(args[-1])}" if len(args) % 2 else ""
    inputs, arrow, output = text.partition("->")
    if not arrow:
        output = "..." + "".join(sorted(c for c in set(inputs) - set(",.") if inputs.count(c) == 1))
    unused = "".join(c for c in LETTERS if c not in text)
    dotted = [np.ndim(x) - len(t) + 3 if "..." in t else 0 for t, x in zip(inputs.split(","), operands, strict=True)]
    n = max(dotted)
    terms = [t.replace("...", unused[n - k : n]) for t, k in zip(inputs.split(","), dotted, strict=True)]
    return operands, i, terms, output.replace("...", unused[:n]), list(unused[n:])


def einsum_rule(position, g, ans, *args, optimize=False, **options):
    """The einsum of `g` and the other operands that has the indices of the operand in question.

    An index that none of them has in full length comes from an array of ones. Of an index that the operand repeats,
    only the first remains, and an identity matrix puts the result on the diagonal.
    """
    operands, i, terms, output, unused = _terms(args, position)
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        sizes.update((c, n) for c, n in zip(term, np.shape(operand), strict=True) if n != 1 or c not in sizes)
    factors = [(output, g), *((t, x) for k, (t, x) in enumerate(zip(terms, operands, strict=True)) if k != i)]
    given = {c for term, x in factors for c, n in zip(term, np.shape(x), strict=True) if n == sizes[c]}
    wanted = ""
    for c in terms[i]:
        name = c
        if c in wanted:
            name = unused.pop()
            factors.append((c + name, np.eye(sizes[c], dtype=g.dtype)))
        elif c not in given:
            factors.append((c, np.ones(sizes[c], g.dtype)))
        wanted += name
    subscripts = ",".join(term for term, _ in factors) + "->" + wanted
    part = np.einsum(subscripts, *(x for _, x in factors), optimize=bool(optimize))  # a path would not fit here
    return unbroadcast(part, np.shape(operands[i]))


MOST = 129  # arguments of np.einsum: 64 operands, each with its indices, and the indices of the answer
vjps[np.einsum] = tuple(functools.partial(einsum_rule, position) for position in range(MOST))


@composite(np.linalg.outer)
def outer_of_vectors(a, b):
    m, n = np.ndim(a), np.ndim(b)
    if (m, n) != (1, 1):
        raise ValueError(f"np.linalg.outer takes two vectors, not arrays of {m} and {n} axes; np.outer takes any")
    return np.outer(a, b)


@composite(np.tensordot)
def tensordot(a, b, axes=2):
    a, b = as_array(a), as_array(b)
    of_a, of_b = (range(-axes, 0), range(axes)) if np.ndim(axes) == 0 else axes
    of_a, of_b = normalize_axis_tuple(of_a, a.ndim), normalize_axis_tuple(of_b, b.ndim)
    summed = [a.shape[i] for i in of_a]
    if summed != [b.shape[i] for i in of_b]:
        raise ValueError(f"np.tensordot of shapes {a.shape} and {b.shape}: axes {of_a} and {of_b} differ in length")
    free_a, free_b = ([i for i in range(x.ndim) if i not in of] for x, of in ((a, of_a), (b, of_b)))
    rows, columns = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    a = np.reshape(np.transpose(a, (*free_a, *of_a)), (math.prod(rows), math.prod(summed)))
    b = np.reshape(np.transpose(b, (*of_b, *free_b)), (math.prod(summed), math.prod(columns)))
    return np.reshape(np.matmul(a, b), (*rows, *columns))


@composite(np.kron)
def kron(a, b):
    a, b = as_array(a), as_array(b)
    n = max(a.ndim, b.ndim)
    a, b = (np.reshape(x, (1,) * (n - x.ndim) + x.shape) for x in (a, b))
    blocks = np.expand_dims(a, tuple(range(1, 2 * n, 2))) * np.expand_dims(b, tuple(range(0, 2 * n, 2)))
    return np.reshape(blocks, [i * j for i, j in zip(a.shape, b.shape, strict=True)])


@composite(np.cross)
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis, axis, axis)
    a, b = np.moveaxis(as_array(a), axisa, -1), np.moveaxis(as_array(b), axisb, -1)
    if (a.shape[-1], b.shape[-1]) != (3, 3):
        raise ValueError(
            f"np.cross of a Tensor takes vectors of length 3, not {a.shape[-1]} and {b.shape[-1]}. NumPy gives up "
            "those of length 2: write a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]."
        )
    turns = ((1, 2), (2, 0), (0, 1))
    return np.stack([a[..., i] * b[..., j] - a[..., j] * b[..., i] for i, j in turns], axisc)


# fmt: off
composites[np.vdot]                    = lambda a, b: np.matmul(conjugate(np.ravel(a)), np.ravel(b))
composites[np.outer]                   = lambda a, b, out=None: np.ravel(a)[:, None] * np.ravel(b)
composites[np.linalg.cross]            = lambda a, b, axis=-1: np.cross(a, b, axis=axis)
composites[np.linalg.matmul]           = lambda a, b: np.matmul(a, b)
composites[np.linalg.tensordot]        = lambda a, b, axes=2: np.tensordot(a, b, axes)
composites[np.linalg.matrix_transpose] = lambda a: np.swapaxes(a, -1, -2)
composites[np.linalg.diagonal]         = lambda a, offset=0: np.diagonal(a, offset, -2, -1)
composites[np.linalg.trace]            = lambda a, offset=0, dtype=None: np.trace(a, offset, -2, -1, dtype)
# fmt: on
constants.add(np.linalg.matrix_rank)


# ------------------------------------------------------------------------------------------- inverses and solutions


def inv_or_inf(x):
    """inv(x); for a stack with singular matrices among others, with inf or nan in place of their inverses."""
    try:
        return np.linalg.inv(x)
    except LinAlgError:
        return flipped(minors(x)) / np.linalg.det(x)[..., None, None]


def cofactors(x, det):
    """The derivative of the determinant: det(x) * inv(x).T, which for a singular matrix exists without the inverse."""
    n = x.shape[-1]
    try:
        size = np.exp(np.linalg.slogdet(numbers_of(x))[1] / max(n, 1))[..., None, None]  # det(x) may be too small, ...
        size = np.where((size > 0) & (size < np.inf), size, 1)
        even = x / size  # ... but that of this is 1 or -1
        return size ** (n - 1) * np.linalg.det(even)[..., None, None] * flipped(np.linalg.inv(even))
    except LinAlgError:
        return minors(x)


def minors(x):
    """The cofactors by their definition: determinants of what remains without a row and a column."""
    n = x.shape[-1]
    rest = np.array([[k for k in range(n) if k != i] for i in range(n)], int)
    rows = [np.linalg.det(x[..., rest[i][:, None], rest[:, None]]) * (-1) ** (i + np.arange(n)) for i in range(n)]
    return np.stack(rows, -2).astype(x.dtype)


def pinv_rule(g, ans, x, rcond=None):
    turned, up = flipped(g), adjoint(ans)  # the adjoint of conjugate(g), and of the answer
    left, right = turned @ ans @ up, up @ ans @ turned
    answer = conjugate(left - (x @ ans) @ left + right - right @ (ans @ x) - up @ conjugate(g) @ up)
    return answer if rcond is None or np.all(np.less(rcond, rounding(x))) else answer + beside(g, x, rcond=rcond)


def rounding(x):
    """How small the singular values of a matrix are, relative to the largest, that are 0 but for rounding."""
    return 10 * max(x.shape[-2:]) * np.finfo(x.dtype).eps


def parted(s, rcond):
    """Pairs of singular values of which pinv takes one for 0: the larger (else 1), and the smaller relative to it."""
    kept = s > np.asarray(rcond)[..., None] * np.max(s, axis=-1, keepdims=True, initial=0)
    mixed = kept[..., None] & ~kept[..., None, :]
    larger = np.where(mixed, s[..., None], 1)
    ratio = np.where(mixed, s[..., None, :] / larger, 0)
    return np.square(larger * flipped(larger)), ratio + flipped(ratio)


@constant
def unknown(x, *, rcond):
    """nan for the matrices of which pinv has cut off more than rounding errors, and 0 for others."""
    ratio = parted(np.linalg.svdvals(x), rcond)[1]
    cut = np.any(ratio > rounding(x), axis=(-2, -1), keepdims=True)
    return np.where(cut, np.nan, 0).astype(x.dtype)


@primitive(
    lambda h, ans, g, x, rcond: np.zeros_like(g) + unknown(x, rcond=rcond),
    lambda h, ans, g, x, rcond: np.zeros_like(x) + unknown(x, rcond=rcond),
)
def beside(g, x, *, rcond):
    """What pinv_rule misses where singular values were cut off: how their vectors mix with those that were kept."""
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    square, ratio = parted(s, rcond)
    mixing = ratio / ((1 - ratio) * (1 + ratio)) / square
    inner = adjoint(vh @ conjugate(g) @ u)
    return conjugate(u @ (mixing * (ratio * inner + adjoint(inner))) @ vh)


def mirrored(x, lower=True):
    """The symmetric, or Hermitian, matrix that agrees with `x` in one triangle, which is all that is read of x."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise LinAlgError(f"a symmetric matrix, or a stack of them, is square; this array has shape {x.shape}")
    triangle = np.tri(x.shape[-1], dtype=bool)
    x = np.where(triangle if lower else triangle.T, x, adjoint(x))
    return x if x.dtype.kind != "c" else x - 1j * on_diagonal(np.imag(np.linalg.diagonal(x)))


def cholesky_rule(g, ans):
    up = adjoint(ans)
    inner = (up @ conjugate(g)) * (np.tri(ans.shape[-1], dtype=ans.dtype) - np.eye(ans.shape[-1], dtype=ans.dtype) / 2)
    return conjugate(np.linalg.solve(up, adjoint(np.linalg.solve(up, adjoint(inner)))))


def least_squares(a, b, rcond):
    return np.linalg.lstsq(a, b, rcond)[0]


# fmt: off
vjps[np.linalg.inv]      = lambda g, ans, x: -flipped(ans) @ g @ flipped(ans),
vjps[np.linalg.det]      = lambda g, ans, x: g[..., None, None] * cofactors(x, ans),
vjps[np.linalg.pinv]     = lambda g, ans, x, rcond=None, rtol=None: \
                           pinv_rule(g, ans, x, rtol if rcond is None else rcond),
vjps[np.linalg.cholesky] = lambda g, ans, x: cholesky_rule(g, ans),
vjps[np.linalg.solve]    = (lambda g, ans, a, b: -np.linalg.solve(flipped(a), g) @ flipped(ans),
                            lambda g, ans, a, b: np.linalg.solve(flipped(a), g))
vjps[least_squares]      = (lambda g, ans, a, b, rcond: pinv_rule(g @ flipped(b), np.linalg.pinv(a, rcond), a, rcond),
                            lambda g, ans, a, b, rcond: flipped(np.linalg.pinv(a, rcond)) @ g)

composites[np.linalg.pinv] = lambda a, rcond=None, hermitian=False, **rtol: \
                             call(np.linalg.pinv, (mirrored(a) if hermitian else a,), {"rcond": rcond, **rtol})
# fmt: on


@composite(np.linalg.solve)
def solve(a, b):
    a, b = as_array(a), as_array(b)
    return np.linalg.solve(a, b[:, None])[..., 0] if b.ndim == 1 else call(np.linalg.solve, (a, b))


@composite(np.linalg.cholesky)
def cholesky(a, upper=False):
    lower = call(np.linalg.cholesky, (mirrored(a, not upper),))
    return adjoint(lower) if upper else lower


@composite(np.linalg.lstsq)
def lstsq(a, b, rcond=None):
    a, b = as_array(a), as_array(b)
    eps = np.finfo(np.result_type(a, b, np.float32)).eps
    rcond = eps * max(a.shape) if rcond is None else eps if rcond < 0 else rcond
    x = call(least_squares, (a, b[:, None] if b.ndim == 1 else b, rcond))
    rank, (m, n) = np.linalg.matrix_rank(a, rtol=rcond), a.shape
    x = x[:, 0] if b.ndim == 1 else x
    try:
        full = bool(rank == n)
    except TypeError as error:  # under a mode that does not know the numbers
        text = "np.linalg.lstsq returns as many residuals as the rank of its matrix allows, which is not known yet"
        raise type(error)(f"{users_line()}, {text}: write np.linalg.pinv(a) @ b for the solution alone.") from error
    errors = np.reshape(b - a @ x, (m, b.size // m)) if full and n < m else np.zeros((m, 0), x.dtype)
    return x, np.sum(squared(errors), 0), rank, np.linalg.svdvals(a)


@composite(np.linalg.tensorinv)
def tensorinv(a, ind=2):
    before, behind = a.shape[:ind], a.shape[ind:]
    return np.reshape(np.linalg.inv(np.reshape(a, (math.prod(before), math.prod(behind)))), (*behind, *before))


@composite(np.linalg.tensorsolve)
def tensorsolve(a, b, axes=None):
    a, b = as_array(a), as_array(b)
    a = np.moveaxis(a, axes, range(a.ndim - len(axes), a.ndim)) if axes else a
    shape = a.shape[b.ndim :]
    return np.reshape(np.linalg.solve(np.reshape(a, (b.size, math.prod(shape))), np.ravel(b)), shape)


@composite(np.linalg.matrix_power)
def matrix_power(a, n):
    n = operator.index(n)
    if n < 0:
        return np.linalg.matrix_power(np.linalg.inv(a), -n)
    if n == 0:
        return np.where(True, np.eye(*a.shape[-2:], dtype=a.dtype), a)
    half = a if n < 4 else np.linalg.matrix_power(a, n // 2)
    return a if n == 1 else half @ half if n % 2 == 0 else (half @ half) @ a


@composite(np.linalg.multi_dot)
def multi_dot(arrays):
    """In the order that takes the fewest multiplications."""
    arrays = [as_array(array) for array in arrays]
    sizes = [1 if arrays[0].ndim == 1 else len(arrays[0]), *(len(x) for x in arrays[1:])]
    sizes += [1 if arrays[-1].ndim == 1 else arrays[-1].shape[1]]

    @functools.cache
    def cheapest(i, j):  # product of arrays[i:j]: its cost, and where to split it
        costs = ((cheapest(i, k)[0] + cheapest(k, j)[0] + sizes[i] * sizes[k] * sizes[j], k) for k in range(i + 1, j))
        return min(costs, default=(0, i))

    def product(i, j):
        k = cheapest(i, j)[1]
        return arrays[i] if j == i + 1 else product(i, k) @ product(k, j)

    return product(0, len(arrays))


# --------------------------------------------------------------------------------------- functions of several answers

joined: dict[Function, Function] = {}


def packed(function, x, **options):
    """All answers of a function of matrices in one array: for each matrix, flattened and joined."""
    parts, batch = function(x, **options), x.shape[:-2]
    return np.concatenate([np.reshape(p, (*batch, math.prod(p.shape[len(batch) :]))) for p in parts], -1)


def taken_apart(numbers: Any, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Arrays of these shapes, of all their numbers one after the other along the last axis."""
    ends = itertools.accumulate(map(math.prod, shapes))
    parts = [numbers[..., end - math.prod(shape) : end] for end, shape in zip(ends, shapes, strict=True)]
    return [np.reshape(part, (*numbers.shape[:-1], *shape)) for part, shape in zip(parts, shapes, strict=True)]


def several(function, shapes, rule):
    """Give `function`, which has several answers, its derivative `rule(g, ans, x)`, all of them tuples but x.

    The rule is shown the conjugate gradient, and returns that of x: formulas of matrices are written for those.

    A node of the graph holds one array: the answers for each matrix, flattened and joined. `shapes(m, n)` are the
    shapes of the answers for a matrix of m rows and n columns.
    """
    example = function(np.eye(1, dtype=complex))  # NumPy has no public name for its type
    real_or = lambda part, one: np.real(part) if part.dtype.kind == "c" != one.dtype.kind else part
    parts = lambda packed, x: list(map(real_or, taken_apart(packed, shapes(*x.shape[-2:])), example))
    together = functools.update_wrapper(functools.partial(packed, function), function)
    joined[function] = together
    vjps[together] = (lambda g, ans, x, **k: conjugate(rule(parts(conjugate(g), x), parts(ans, x), x)),)
    return lambda x, **options: type(example)(*parts(call(together, (x,), options), x))


def asked(g):
    """Which of the vectors in the columns receive a gradient: only of those must the derivative be defined."""
    # That is read off the gradient itself, before it is divided by gaps: where values are equal, 0 / 0 tells nothing.
    return np.any(g != 0, axis=-2)[..., None, :]


def quotient(x, y, matters):
    return x / np.where((y == 0) & ~matters, np.inf, y)


def turns(g, v, gaps):
    """How much the vectors `v` turn towards each other, when they receive the gradient `g` and their values `gaps`."""
    turn = adjoint(v) @ g
    pairs = (asked(g) | flipped(asked(g))) & ~np.eye(v.shape[-1], dtype=bool)
    return quotient(turn - adjoint(turn), gaps, pairs)


def phases(*turns):
    """The sums of the imaginary parts on the diagonals, which are 0 where the phases of vectors do not matter.

    They are free, so what depends on them has no derivative: then the answer is nan.
    """
    found: Any = sum(np.imag(np.linalg.diagonal(turn)) for turn in turns)
    sizes: Any = sum(np.sum(np.abs(turn), axis=(-2, -1)) for turn in turns)
    return np.where(np.abs(found) > 1e3 * np.finfo(found.dtype).eps * sizes[..., None], np.nan, 0)


def qr_rule(g, ans, x):
    (gq, gr), (q, r) = g, ans
    inner = gq + q @ mirrored(r @ adjoint(gr) - adjoint(gq) @ q)
    return adjoint(np.linalg.solve(r, adjoint(inner)))


def eigh_rule(g, ans, x):
    (gw, gv), (w, v) = g, ans
    if x.dtype.kind == "c":
        gw = gw + phases(adjoint(v) @ gv)
    return v @ (on_diagonal(gw) + turns(gv, v, w[..., None, :] - w[..., None]) / 2) @ adjoint(v)


def svd_rule(g, ans, x):
    (gu, gs, gvh), (u, s, vh) = g, ans
    gv, v = adjoint(gvh), adjoint(vh)
    if x.dtype.kind == "c":
        gs = gs + phases(adjoint(u) @ gu, adjoint(v) @ gv)
    across, down = s[..., None, :], s[..., None]
    gaps, total = across - down, across + down  # no products of these: they could overflow, or be 0
    ratio = across / np.where(total == 0, 1, total)
    middle = on_diagonal(gs) + turns(gu, u, gaps) * ratio + turns(gv, v, gaps) * flipped(ratio)
    if x.dtype.kind == "c":  # both vectors of a pair turn by the same phase
        middle = middle + 1j * on_diagonal(np.imag(np.linalg.diagonal(adjoint(u) @ gu)) / np.where(s == 0, 1, s))
    answer, (m, n) = u @ middle @ vh, x.shape[-2:]
    if m > n:
        answer = answer + quotient(gu - u @ (adjoint(u) @ gu), across, asked(gu)) @ vh
    if n > m:
        answer = answer + u @ adjoint(quotient(gv - v @ (adjoint(v) @ gv), across, asked(gv)))
    return answer


def slogdet_rule(g, ans, x):
    (gsign, glog), (sign, _) = g, ans
    if x.dtype.kind == "c":  # the sign turns as the imaginary part of the logarithm does
        glog = glog - 1j * np.imag(conjugate(gsign) * sign)
    return glog[..., None, None] * adjoint(inv_or_inf(x))


def eig_rule(g, ans, x):
    """Vectors have the length 1; see `phases`."""
    (gw, gv), (w, v) = g, ans
    turn, gaps = adjoint(v) @ gv, np.conjugate(w[..., None, :] - w[..., None])
    lengths = adjoint(v) @ v * np.real(np.linalg.diagonal(turn))[..., None, :]
    inner = on_diagonal(gw + phases(turn)) + quotient(turn - lengths, gaps, ~np.eye(w.shape[-1], dtype=bool))
    return np.linalg.solve(adjoint(v), inner @ adjoint(v))


# fmt: off
signed    = several(np.linalg.slogdet, lambda m, n: [(), ()], slogdet_rule)
general   = several(np.linalg.eig,     lambda m, n: [(n,), (n, n)], eig_rule)
upright   = several(np.linalg.qr,      lambda m, n: [(m, n), (n, n)], qr_rule)
symmetric = several(np.linalg.eigh,    lambda m, n: [(n,), (n, n)], eigh_rule)
thin      = several(np.linalg.svd,     lambda m, n: [(m, min(m, n)), (min(m, n),), (min(m, n), n)], svd_rule)

composites[np.linalg.slogdet]  = lambda a: signed(a)
composites[np.linalg.eigh]     = lambda a, UPLO="L": symmetric(mirrored(a, UPLO.upper() != "U"), UPLO=UPLO)
composites[np.linalg.eigvalsh] = lambda a, UPLO="L": np.linalg.eigh(a, UPLO).eigenvalues
composites[np.linalg.eig]      = lambda a: general(a.astype(np.result_type(a.dtype, np.complex64)))  # always complex
composites[np.linalg.eigvals]  = lambda a: np.linalg.eig(a).eigenvalues
composites[np.linalg.svdvals]  = lambda a: np.linalg.svd(a, full_matrices=False).S
# fmt: on


@composite(np.linalg.qr)
def qr(a, mode="reduced"):
    """Of a wide matrix, the factors of its first columns turn the others, too."""
    m, n = a.shape[-2:]
    if mode not in ("reduced", "r", "complete") or (mode == "complete" and m > n):
        raise NotImplementedError(
            f"np.linalg.qr of a Tensor of shape {a.shape} in mode {mode!r}: it knows the modes 'reduced' and 'r', and "
            "'complete' where that is the same. The columns that complete a tall matrix are free to turn."
        )
    q, r = answer = upright(a[..., :m] if n > m else a)
    if n > m:
        answer = answer._replace(R=np.concatenate([r, adjoint(q) @ a[..., m:]], -1))
    return answer.R if mode == "r" else answer


@composite(np.linalg.svd)
def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    if compute_uv and full_matrices and a.shape[-1] != a.shape[-2]:
        raise NotImplementedError(
            f"np.linalg.svd of a Tensor of shape {a.shape}: say full_matrices=False. The vectors that complete a basis "
            "are free to turn, so they have no derivative."
        )
    answer = thin(mirrored(a) if hermitian else a, full_matrices=False, hermitian=hermitian)
    return answer if compute_uv else answer.S


# -------------------------------------------------------------------------------------------------------------- norms


def length(x, p, axis, keepdims):
    """The p-norm along all the axes together."""
    k = {"axis": axis, "keepdims": keepdims}
    if isinstance(p, str):
        raise ValueError(f"{p!r} is a norm of matrices, and here is a vector: p is a number, or inf or -inf")
    if p is None or p == 2:
        return root(np.sum(squared(x), **k), p=2)
    size = np.abs(x)
    if p in (np.inf, -np.inf):
        return np.max(size, initial=0, **k) if p > 0 else np.min(size, **k)
    if p in (0, 1):
        return np.sum(size if p else np.sign(size), **k)
    size = np.where(size == 0, 0, size) if p < 1 else size  # so that at 0, a kink, the gradient is 0
    return root(np.sum(size**p, **k), p=p)


def _floating(x):
    x = as_array(x)
    return x if x.dtype.kind in "fc" else x.astype(float)


@composite(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    x = _floating(x)
    if axis is None and ord is None:
        return length(x, 2, None, keepdims)
    axes = axes_of(x, axis)
    if len(axes) == 1:
        return length(x, ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError(f"np.linalg.norm takes one axis (of vectors) or two (of matrices), not {len(axes)}")
    if ord in (None, "fro", "f"):
        return length(x, 2, axes, keepdims)
    if ord in (1, -1, np.inf, -np.inf):
        sums = np.sum(np.abs(x), axis=axes[ord not in (1, -1)], keepdims=True)
        return length(sums, np.inf if ord > 0 else -np.inf, axes, keepdims)
    if ord not in (2, -2, "nuc"):
        raise ValueError(f"matrices have the norms 'fro', 'nuc', 1, -1, 2, -2, inf and -inf, not {ord!r}")
    values = np.linalg.svdvals(np.moveaxis(x, axes, (-2, -1)))
    # At 0, a kink, the derivative of hypot is 0, and that of its derivative is nan.
    values = np.hypot(values, np.zeros_like(values))
    answer = (np.sum if ord == "nuc" else np.max if ord == 2 else np.min)(values, axis=-1)
    return np.expand_dims(answer, tuple(sorted(axes))) if keepdims else answer


# fmt: off
composites[np.linalg.vector_norm] = lambda x, axis=None, keepdims=False, ord=2: \
                                    length(_floating(x), ord, axis, keepdims)
composites[np.linalg.matrix_norm] = lambda x, keepdims=False, ord="fro": np.linalg.norm(x, ord, (-2, -1), keepdims)
# fmt: on


@composite(np.linalg.cond)
def cond(x, p=None):
    with np.errstate(all="ignore"):  # of a singular matrix it is infinite
        if p in (None, 2, -2):
            s = np.linalg.svdvals(x)
            ratio = s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
        else:
            ratio = np.linalg.norm(x, p, (-2, -1)) * np.linalg.norm(inv_or_inf(x), p, (-2, -1))
    return np.where(np.isnan(ratio) & ~np.any(np.isnan(x), axis=(-2, -1)), np.inf, ratio)
