"""Complex numbers: every function that takes them, and that all others refuse them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_composites
import test_linalg
import test_rules
from cases import Case, arguments
from hypothesis import find, given
from hypothesis import strategies as st
from profiles import scale

import minigrad as mg
from minigrad.engine import name_of
from minigrad.optim import SGD, Adam, AdamW, RMSprop, clip_grad_norm
from minigrad.tables.rules import cosine, logistic
from minigrad.testing import arrays_for, assert_rule, check_grads, tensors

rows: dict[Callable[..., Any], list[Case]] = {}
for table in (test_rules.cases, test_composites.cases, test_linalg.cases):
    for function, its_rows in table.items():
        rows.setdefault(function, []).extend(its_rows)

# fmt: off
REAL_ONLY = {  # most of them as in NumPy
    logistic.__wrapped__,
    np.cbrt, np.fabs, np.floor, np.ceil, np.trunc, np.fix, np.spacing, np.deg2rad, np.radians, np.rad2deg, np.degrees,
    np.arctan2, np.hypot, np.copysign, np.nextafter, np.ldexp, np.frexp, np.modf, np.heaviside, np.logaddexp,
    np.logaddexp2, np.remainder, np.fmod, np.floor_divide, np.divmod, np.unwrap, np.bincount,
    np.quantile, np.percentile, np.median, np.nanquantile, np.nanpercentile, np.nanmedian,
    np.fft.rfft, np.fft.rfftn, np.fft.rfft2, np.fft.ihfft,
    *(getattr(u, m) for m in ("outer", "reduce", "accumulate") for u in (np.hypot, np.logaddexp, np.logaddexp2)),
    *(u.outer for u in (np.arctan2, np.copysign, np.floor_divide, np.fmod, np.heaviside, np.ldexp, np.nextafter)),
    np.remainder.outer,
}
# fmt: on
OF_PHASES = {np.linalg.eigh, np.linalg.svd}  # the rows have answers that depend on the phases of vectors
NO_ROWS = {
    cosine.__wrapped__,
    np.astype,
    np.ndarray.astype,
    np.interp,
}  # whose rows make real numbers of all; see below
REAL_ANSWERS = {np.cov, np.corrcoef, np.angle}  # in part: an imaginary part of 0 is all rounding


def complex_arguments(case: Case, seed: int) -> list[np.ndarray]:
    pairs = zip(arguments(case, seed), arguments(case, seed + 100), strict=True)
    return [np.asarray(x + 0.7j * y) for x, y in pairs]


def outcome(function: Callable[..., Any], args: list[Any]) -> Any:
    """What a function gives for arrays, or None where NumPy does not take them."""
    try:
        with np.errstate(all="ignore"):
            return np.asarray(function(*args))
    except (TypeError, np.exceptions.ComplexWarning, np.linalg.LinAlgError):
        return None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("function", [f for f in rows if f not in REAL_ONLY | OF_PHASES | NO_ROWS], ids=name_of)
def test_function_of_complex_numbers(function: Callable[..., Any]) -> None:
    number = [*rows].index(function)  # a quick run takes the gradients of every other function
    known = [(row, args) for i, row in enumerate(rows[function]) if None is not (args := complex_arguments(row, i))]
    known = [(row, args) for row, args in known if outcome(row.function, args) is not None]
    assert known
    for row, args in known[: scale(1, 2)]:
        expected = outcome(row.function, args)
        answer = row.function(*(mg.Tensor(z, requires_grad=True) for z in args))
        numbers = answer.detach().data if isinstance(answer, mg.Tensor) else np.asarray(answer)
        np.testing.assert_allclose(numbers, expected, rtol=1e-9, atol=1e-9, strict=True)
        if scale(number % 2, 0):
            continue
        of_size = (lambda *z, f=row.function: np.abs(f(*z))) if function in REAL_ANSWERS else row.function
        check_grads(of_size, args, order=1, shrink=False)  # of the second, parts cancel to rounding errors


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated")
@pytest.mark.parametrize("function", [f for f in rows if f in REAL_ONLY], ids=name_of)
def test_function_of_real_numbers_alone(function: Callable[..., Any]) -> None:
    for i, row in enumerate(rows[function]):
        with pytest.raises((TypeError, ValueError)):
            row.function(*(mg.Tensor(z, requires_grad=True) for z in complex_arguments(row, i)))


Z = np.array([0.3 + 0.4j, -1.2 + 0.1j, 0.7 - 2.0j])


def test_the_gradient_of_the_real_part_of_a_holomorphic_function_is_its_derivative() -> None:
    np.testing.assert_allclose(mg.grad(lambda z: np.real(np.sum(np.sin(z))))(Z), np.cos(Z), rtol=1e-14)
    np.testing.assert_allclose(mg.grad(lambda z: np.sum(np.abs(z) ** 2))(Z), 2 * np.conj(Z), rtol=1e-14)
    np.testing.assert_allclose(mg.hessian(lambda z: np.real(np.sum(z**3)))(Z), np.diag(6 * Z), rtol=1e-14)


def test_maps() -> None:
    for f, along in [(np.sin, lambda v: np.cos(Z) * v), (np.conjugate, np.conjugate)]:
        np.testing.assert_allclose(mg.jvp(f, (Z,), (1j * Z,))[1], along(1j * Z), rtol=1e-14)
    np.testing.assert_allclose(mg.vjp(np.exp, Z)[1](Z)[0], Z * np.exp(Z), rtol=1e-14)
    along = mg.hvp(lambda z: np.sum(np.abs(z) ** 2))(Z, 1j * Z)  # the gradient is 2 * conj(z)
    np.testing.assert_allclose(along, 2 * np.conj(1j * Z), rtol=1e-14)


def test_jacobian_of_complex_answers() -> None:
    x = Z.real
    np.testing.assert_allclose(mg.jacobian(np.exp)(Z), np.diag(np.exp(Z)), rtol=1e-14)
    np.testing.assert_allclose(mg.jacobian(lambda x: np.exp(1j * x))(x), np.diag(1j * np.exp(1j * x)), rtol=1e-14)
    np.testing.assert_allclose(mg.jacobian(np.abs)(Z), np.diag(np.conj(Z) / np.abs(Z)), rtol=1e-14)
    with pytest.raises(TypeError, match="only where the function is holomorphic"):
        mg.jacobian(lambda z: z * np.conj(z))(Z)


@given(st.integers(0, 1000))
def test_a_gradient_adds_up_through_real_and_complex_arguments(seed: int) -> None:
    """Where real and complex numbers meet, each gets a gradient of its own kind."""
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal(3), rng.standard_normal((2, 1)) + 1j * rng.standard_normal((2, 1))
    check_grads(lambda x, z: np.abs(np.sin(x * z) + x) ** 2, [x, z], order=1, shrink=False)
    gradients = mg.grad(lambda x, z: np.sum(np.abs(x * z)), (0, 1))(x.astype(np.float32), z.astype(np.complex64))
    assert [(g.shape, g.dtype) for g in gradients] == [((3,), np.float32), ((2, 1), np.complex64)]


@pytest.mark.parametrize("call", [
    lambda: mg.grad(np.sum)(Z),
    lambda: np.sum(mg.Tensor(Z, requires_grad=True)).backward(),
])  # fmt: skip
def test_gradients_are_those_of_real_numbers(call: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"real number.*complex128.*np\.real"):
        call()


def test_backward_from_a_complex_number() -> None:
    t = mg.Tensor(Z, requires_grad=True)
    np.exp(t).backward(Z)
    np.testing.assert_allclose(t.grad, Z * np.exp(Z), rtol=1e-14)


def test_kinks() -> None:
    zero = np.array([0j, 1 + 1j])
    np.testing.assert_allclose(mg.grad(lambda z: np.sum(np.abs(z)))(zero), [0, (1 - 1j) / np.sqrt(2)])
    np.testing.assert_array_equal(mg.grad(np.linalg.norm)(np.zeros(2, complex)), [0, 0])
    np.testing.assert_array_equal(mg.grad(lambda z: np.sum(np.angle(z)))(np.zeros(1, complex)), [0])


def test_branches_that_were_not_chosen() -> None:
    z = np.array([0j, 1 + 1j])
    with np.errstate(divide="ignore"):
        found = mg.grad(lambda z: np.sum(np.abs(np.where(z == 0, 0, np.log(z)))))(z)
    assert found[0] == 0
    assert np.isfinite(found[1])


def test_interp_to_complex_values() -> None:
    xp, x = np.array([0.0, 1.0, 3.0]), np.array([-1.0, 0.5, 2.5, 4.0])
    f = lambda x, fp: np.interp(x, xp, fp, 1j)
    np.testing.assert_allclose(f(mg.Tensor(x), mg.Tensor(Z)).data, np.interp(x, xp, Z, 1j), rtol=1e-14)
    check_grads(f, [x, Z])


# What does not depend on the phases of vectors has derivatives, and what does has none.
HERMITIAN = np.array([[2.0, 0.5 + 1j, 0.2], [0, 5.0, -1j], [0, 0, 9.0]])


def phase_free(function: Any, x: Any) -> Any:
    parts = function(x)
    return np.concatenate([np.ravel(np.abs(part)) for part in parts])


def outer_products(x: Any) -> Any:
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return np.concatenate([np.ravel(u[:, :1] @ vh[:1] + (u * s**2) @ vh), s])


@pytest.mark.parametrize("function", [
    lambda x: phase_free(np.linalg.eigh, x),
    lambda x: phase_free(np.linalg.eigh, x + 1j * x.T),
    lambda x: np.linalg.eigvalsh(x, "U"),
    outer_products,
    lambda x: outer_products(x[:2]),
    lambda x: outer_products(x[:, :2]),
    lambda x: phase_free(lambda x: np.linalg.svd(x, hermitian=True), x),
    lambda x: np.linalg.svdvals(x),
    lambda x: np.linalg.norm(x, "nuc"),
    lambda x: np.linalg.cholesky(x @ np.conj(x).T),
    lambda x: np.linalg.cholesky(x @ np.conj(x).T, upper=True),
    lambda x: np.linalg.qr(x[:2]).R,
    lambda x: np.linalg.pinv(x[:2]),
    lambda x: np.linalg.lstsq(x[:, :2], x[:, 2])[0],
    lambda x: np.linalg.slogdet(x),
    lambda x: np.linalg.cond(x),
])  # fmt: skip
def test_factors_of_complex_matrices(function: Callable[..., Any]) -> None:
    rng = np.random.default_rng(1)
    x = HERMITIAN + 0.3 * (rng.standard_normal((3, 3)) + 1j * rng.standard_normal((3, 3)))
    whole = lambda x: np.concatenate([np.ravel(part) for part in out]) if isinstance(out := function(x), tuple) else out
    check_grads(whole, [x], order=scale(1, 2), shrink=False)


@pytest.mark.parametrize("function", [np.linalg.eigh, np.linalg.eig, np.linalg.svd], ids=name_of)
def test_what_depends_on_phases_has_no_derivative(function: Callable[..., Any]) -> None:
    vectors = lambda x: function(x)[function is not np.linalg.svd]
    gradient = mg.grad(lambda x: np.sum(np.imag(vectors(x))))(HERMITIAN + 0.1j)
    assert np.isnan(gradient[np.tri(3, dtype=bool)]).all()  # of which `eigh` reads no more


# On a cut, the sign of the zero says on which side a number lies.
CUTS = {
    **dict.fromkeys([np.sqrt, np.log, np.log2, np.log10], (-2.0,)),
    **dict.fromkeys([np.arcsin, np.arccos, np.arctanh], (2.0, -2.0)),
    **dict.fromkeys([np.arctan, np.arcsinh], (2.0j, -2.0j)),
    np.log1p: (-3.0,),
    np.arccosh: (0.5, -2.0),
}


@pytest.mark.parametrize(("function", "place"), [(f, place) for f, places in CUTS.items() for place in places])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_derivatives_on_branch_cuts(function: Any, place: complex, side: float) -> None:
    z, near = np.array([place], complex), np.array([place], complex)
    along = "real" if isinstance(place, complex) else "imag"
    getattr(z, along)[...], getattr(near, along)[...] = side * 0.0, side * 1e-9
    f = lambda z: np.real(np.sum(function(z)))
    np.testing.assert_allclose(mg.grad(f)(z), mg.grad(f)(near), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mg.hessian(f)(z), mg.hessian(f)(near), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("make", [
    lambda p: SGD(p, 0.05), lambda p: SGD(p, 0.05, 0.9, True, 0.1), lambda p: RMSprop(p, 0.01), lambda p: Adam(p, 0.1),
    lambda p: AdamW(p, 0.1),
])  # fmt: skip
def test_optimizers_move_real_and_imaginary_parts_apart(make: Callable[[Any], Any]) -> None:
    """So they do the same as for a vector of both."""
    whole, pairs = mg.Tensor(Z, requires_grad=True), mg.Tensor(np.stack([Z.real, Z.imag], -1), requires_grad=True)
    optimizers = make([whole]), make([pairs])
    for _ in range(5):
        for optimizer, z in zip(optimizers, (whole, pairs[:, 0] + 1j * pairs[:, 1]), strict=True):
            optimizer.zero_grad()
            np.sum(np.abs(np.exp(z) - 2j) ** 2).backward()
            clip_grad_norm(optimizer.parameters, 3.0)
            optimizer.step()
    np.testing.assert_allclose(whole.data, pairs.data[:, 0] + 1j * pairs.data[:, 1], rtol=1e-12)


@pytest.mark.parametrize("pure", [False, True])
def test_compiled_steps(pure: bool) -> None:
    def trained(compiled: bool) -> Any:
        w, b = mg.Tensor(Z, requires_grad=True), mg.Tensor(np.ones(2), requires_grad=True)
        optimizer = Adam([w, b], 0.1)

        def step(y: Any) -> Any:
            optimizer.zero_grad()
            loss = np.sum(np.abs(w * np.sum(b) - y) ** 2)
            loss.backward()
            optimizer.step()
            return loss

        run = mg.compile(step, pure=pure) if compiled else step
        losses = [float(run(np.array([1, 2j, 3 - 1j])).detach()) for _ in range(5)]
        return [*losses, *w.data, *b.data]

    np.testing.assert_allclose(trained(True), trained(False), rtol=1e-12)


def test_compiled_functions_of_complex_numbers() -> None:
    f = lambda x, z: (np.sum(x * x), np.exp(x * z))
    x, z = mg.Tensor(Z.real, requires_grad=True), mg.Tensor(Z, requires_grad=True)
    found = []
    for run in (f, mg.compile(f), mg.checkpoint(f)):
        x.zero_grad(), z.zero_grad()
        square, wave = run(x, z)
        (square + np.sum(np.real(wave))).backward()
        found.append((x.grad, z.grad))
    for gradients in found[1:]:
        for a, b in zip(gradients, found[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14, strict=True)


def test_primitives_of_complex_numbers() -> None:
    assert_rule(mg.primitive(lambda g, ans, x: g * 3 * x * x)(lambda x: x**3), Z)
    wrong = mg.primitive(lambda g, ans, x: np.conjugate(g * 3 * x * x))(lambda x: x**3)
    with pytest.raises(AssertionError, match="central differences"):
        assert_rule(wrong, Z)


@given(tensors(shape=(3,), dtype=np.complex64), arrays_for(np.exp, [(2,)], np.complex128))
def test_strategies_draw_complex_numbers(tensor: Any, args: Any) -> None:
    assert (tensor.dtype, args[0].dtype) == (np.complex64, np.complex128)
    check_grads(np.exp, list(args), order=1, shrink=False)


def test_strategies_draw_both_parts() -> None:
    find(tensors(shape=(1,), dtype=np.complex64), lambda t: t.data.imag[0] != 0 != t.data.real[0])
