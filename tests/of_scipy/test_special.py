"""Every ufunc of scipy.special is differentiable or refused with a reason, and every slope is right."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import POSITIVE, REAL, UNIT, Case, Domain, arguments, check_second
from profiles import scale

import minigrad as mg
from minigrad.engine import composites, name_of, refusals, vjps
from minigrad.testing import check_grads

S = pytest.importorskip("scipy.special")
special = pytest.importorskip("minigrad.scipy.special")

ONE: Domain = ((0.1, 0.9),)  # probabilities, moduli
BETWEEN_POLES: Domain = ((-1.9, -1.1), (-0.9, -0.1), (0.1, 4.0))

# The arguments of each function, or of some together: the domain of one that is differentiated, or a parameter.
# fmt: off
arguments_of: dict[str, list[Any]] = {
    "cbrt exp2 exp10 expm1 cosm1 expit log_expit exprel expi erf erfc erfi erfcx dawsn ndtr log_ndtr": [REAL],
    "gammasgn j0 j1 i0 i1 i0e i1e wrightomega": [REAL],
    "log1p entr exp1 spence psi gammaln loggamma y0 y1 k0 k1 k0e k1e": [POSITIVE],
    "logit erfcinv ndtri ellipk ellipe": [ONE],
    "gamma rgamma": [BETWEEN_POLES], "erfinv": [UNIT], "round": [((0.6, 1.4),)],
    "gammainc gammaincc jv yv iv ive kv kve hyp0f1": [1.3, POSITIVE],
    "yn kn": [2, POSITIVE], "stdtr": [2.5, REAL], "gammaincinv gammainccinv stdtrit": [2.5, ONE],
    "betainc betaincc betaincinv betainccinv": [1.7, 2.5, ONE],
    "xlogy xlog1py": [REAL, POSITIVE], "rel_entr kl_div beta betaln poch": [POSITIVE, POSITIVE],
    "huber": [((1.2, 3.0),), ((-5, -3.1), (-1.1, 1.1), (3.1, 5))], "pseudo_huber": [POSITIVE, REAL],
    "binom": [((3.1, 5.0),), ((0.3, 2.9),)],
    "hyp1f1": [1.5, 2.5, REAL], "hyp2f1": [1.5, 0.7, 2.5, UNIT], "hyperu": [1.5, 0.7, POSITIVE],
}
cases = {name: domains for names, domains in arguments_of.items() for name in names.split()}

# By the start of the reason.
refused = {
    "gives several answers":
        "airy sici shichi fresnel ellipj kelvin modfresnelm modfresnelp airye itairy iti0k0 itj0y0 it2i0k0 it2j0y0 "
        "pbdv pbvv pbwa mathieu_cem mathieu_sem mathieu_modcem1 mathieu_modcem2 mathieu_modsem1 mathieu_modsem2 "
        "pro_ang1 pro_rad1 pro_rad2 pro_ang1_cv pro_rad1_cv pro_rad2_cv obl_ang1 obl_rad1 obl_rad2 obl_ang1_cv "
        "obl_rad1_cv obl_rad2_cv",
    "has no slope":
        "expn jve yve sindg cosdg tandg cotdg radian powm1 owens_t ndtri_exp hankel1e hankel2e sph_harm bdtr bdtrc "
        "bdtri nbdtr nbdtrc nbdtri pdtr pdtrc pdtri chdtr chdtrc chdtri fdtr fdtrc fdtri gdtr gdtrc gdtria gdtrix "
        "nrdtrimn nrdtrisd chndtr ellipkm1 ellipkinc ellipeinc elliprf elliprd agm boxcox boxcox1p inv_boxcox "
        "inv_boxcox1p eval_legendre eval_sh_legendre eval_chebyt eval_chebyc eval_sh_chebyt eval_chebyu "
        "eval_chebys eval_sh_chebyu eval_laguerre eval_hermite eval_hermitenorm eval_gegenbauer eval_genlaguerre "
        "eval_jacobi eval_sh_jacobi lpmv bdtrik bdtrin btdtr btdtri btdtria btdtrib chdtriv chndtridf chndtrinc "
        "chndtrix fdtridfd gdtrib nbdtrik nbdtrin pdtrik stdtridf kolmogorov kolmogi smirnov smirnovi ncfdtr "
        "ncfdtri ncfdtridfd ncfdtridfn ncfdtrinc nctdtr nctdtridf nctdtrinc nctdtrit mathieu_a mathieu_b pro_cv "
        "obl_cv zetac voigt_profile tklmbda besselpoly wright_bessel log_wright_bessel elliprc elliprg elliprj ber "
        "bei ker kei berp beip kerp keip struve modstruve itstruve0 it2struve0 itmodstruve0",
}
# fmt: on
ufuncs = {name: f for name, f in vars(S).items() if isinstance(f, np.ufunc)}


def call(name: str) -> Callable[..., Any]:
    """A function of the differentiable arguments alone."""

    def called(*arrays: Any) -> Any:
        given = iter(arrays)
        return getattr(S, name)(*(next(given) if isinstance(x, tuple) else x for x in cases[name]))

    return called


def numbers(name: str, n: int = 3) -> list[np.ndarray]:
    domains = [x for x in cases[name] if isinstance(x, tuple)]
    return arguments(Case(call(name), [(n,)] * len(domains), domains), seed=0)


def test_every_ufunc_is_sorted() -> None:
    known = {getattr(S, name) for name in [*cases, *of_complex_numbers]}
    reasons = {getattr(S, name, None): reason for reason, names in refused.items() for name in names.split()}
    for name, function in ufuncs.items():
        if function in reasons:
            assert refusals[function].startswith(reasons[function]), name
        else:
            assert function in known, f"write a line for {name} in minigrad/scipy/special.py, or sort it in here"
            assert (function in vjps) + (function in composites) == 1 + (name == "ive")
    assert not known & {*refusals}


@pytest.mark.parametrize("name", cases)
def test_slopes(name: str) -> None:
    f, args = call(name), numbers(name)
    answer = f(*(mg.Tensor(a, requires_grad=True) for a in args))
    np.testing.assert_allclose(answer.data, f(*args), rtol=1e-13)
    check_grads(f, args, order=1)
    check_second(f, args)


@pytest.mark.parametrize("name", cases)
def test_slopes_in_single_precision(name: str) -> None:
    f, args = call(name), [a.astype(np.float32) for a in numbers(name, 2)]
    given = tuple(range(len(args)))
    if getattr(S, name) in vjps:
        assert f(*map(mg.Tensor, args)).dtype == np.asarray(f(*args)).dtype
    single = mg.grad(lambda *xs: np.sum(f(*xs)), given)(*args)
    double = mg.grad(lambda *xs: np.sum(f(*xs)), given)(*(a.astype(float) for a in args))
    for g, exact in zip(single, double, strict=True):
        assert g.dtype == np.float32
        np.testing.assert_allclose(g, exact, rtol=2e-3 if "inv" in name else 2e-4, atol=1e-5)


# Of complex numbers: the arguments before the last. Of some SciPy does not know the derivative of what their slope is.
ORDERS = {"gamma": 1, "rgamma": 1, "loggamma": 1, "psi": 0, "digamma": 0}
of_complex_numbers: dict[str, tuple[Any, ...]] = {
    name: before for before, names in {
        (): "erf erfc erfi erfcx wofz dawsn ndtr log_ndtr gamma rgamma loggamma psi digamma exp1 expi spence "
            "wrightomega expm1 log1p",
        (1.5 - 0.5j,): "xlogy xlog1py", (1.3,): "jv jn yv iv ive kv kve hankel1 hankel2 hyp0f1",
        (1.5, 2.5): "hyp1f1", (1.5, 0.7, 2.5): "hyp2f1",
    }.items() for name in names.split()
}  # fmt: skip
PLANE = np.array([0.6 + 0.4j, -1.3 + 0.7j, 2.1 - 0.5j, -0.4 - 1.1j])  # in each quarter, away from cuts, poles and kinks


@pytest.mark.parametrize("name", of_complex_numbers)
def test_slopes_of_complex_numbers(name: str) -> None:
    f = lambda z: getattr(S, name)(*of_complex_numbers[name], z)
    z, order = PLANE / 10 if name == "hyp2f1" else PLANE, ORDERS.get(name, 2)
    np.testing.assert_allclose(f(mg.Tensor(z)).data, f(z), rtol=1e-13)
    if "hyp1f1" in name and np.imag(S.hyp1f1(1.5, 2.5, z[0])) == 0:
        pytest.skip("SciPy 1.13 takes most complex numbers for 0 here")
    for number in z:  # apart, since their sizes differ
        check_grads(f, [number], order=order)
    if order < 2:
        with pytest.raises(NotImplementedError, match=r"zeta\(x, q\).* of real q alone: take differences"):
            check_grads(f, [z[0]], order=order + 1)


def test_every_function_of_complex_numbers_has_a_row() -> None:
    takes = lambda f: any("D" in types.partition("->")[0] for types in f.types)
    assert {*of_complex_numbers} == {name for name, f in ufuncs.items() if takes(f) and f not in refusals}


def test_every_wrong_slope_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [lambda g: 1.001 * g, lambda g: -g, lambda g: 0 * g][: scale(1, 3)]
    survivors = []
    for name, fault in itertools.product(cases, faults):
        function = getattr(S, name)
        rules = vjps.get(function, ())
        for i in [i for i, x in enumerate(cases[name]) if isinstance(x, tuple) and i < len(rules) and rules[i]]:
            wrong = [*rules]
            wrong[i] = lambda *args, right=rules[i], fault=fault: fault(right(*args))
            with monkeypatch.context() as patch:
                patch.setitem(vjps, function, wrong)
                try:
                    check_grads(call(name), numbers(name), order=1, shrink=False)
                except AssertionError:
                    continue
            survivors.append((name, i))
    assert not survivors


# Slopes, first and second, that mpmath finds by differences with 90 digits.
references = [
    ("erf", 6, 2.6173012392492648e-16, -3.1407614870991178e-15),
    ("erfc", -6.0, -2.6173012392492648e-16, -3.1407614870991178e-15),
    ("erfc", 26, -2.9470349932662695e-294, 1.5324581964984602e-292),
    ("erfcx", -3, -97237.061503164615, 615834.34672698686),
    ("erfcx", 0.5, -0.5126888229025867, 0.71869186548326505),
    ("erfcx", 7.5, -0.0097737711523623288, 0.0025408188403184337),
    ("erfcx", 9, -0.0068401344155682593, 0.0014930285953207016),
    ("erfcx", 10000.0, -5.6418957508491275e-9, 1.1283791332441388e-12),
    ("dawsn", 0.25, 0.88008041821855089, -0.91971853623507187),
    ("dawsn", 12, -0.0035090348957182476, 0.00059108458926142249),
    ("dawsn", 100000.0, -5.00000000075e-11, 1.0000000003e-15),
    ("expit", -700, 9.8596765437597709e-305, 9.8596765437597709e-305),
    ("expit", 40, 4.248354255291589e-18, -4.2483542552915889e-18),
    ("exprel", -600, 2.7777777777777778e-6, 9.2592592592592593e-9),
    ("exprel", -1e-05, 0.49999666667916663, 0.33333083334333331),
    ("exprel", 1e-09, 0.50000000033333333, 0.33333333358333333),
    ("exprel", 300, 6.4531721353015058e127, 6.4317335032355097e127),
    ("log_ndtr", -1000, 1000.000999998, -0.99999900000599995),
    ("log_ndtr", -30, 30.033259667433677, -0.99889622848810991),
    ("log_ndtr", 20, 5.5209483621597632e-88, -1.1041896724319526e-86),
    ("spence", 1e-09, -20.723265857669677, 999999980.27673406),
    ("spence", 1.0000001, -0.9999999500000033, 0.49999993333334079),
    ("spence", 9, -0.27465307216702742, 0.020442745131989539),
    ("rgamma", -2.5, 1.1669802856379655, 8.8037821833884177),
    ("rgamma", -0.25, 0.59452003435874871, 2.0502562139670019),
    ("rgamma", 170, -1.2023360523319435e-304, 6.1700339073730661e-304),
    ("psi", -1.5, 9.3792466449891238, -0.2362040516417274),
    ("psi", 1e-06, 1000000000001.645, -2.0000000000000003e18),
    ("psi", 1000000.0, 1.0000005000001667e-6, -1.0000010000005e-12),
    ("gammaln", 1e-09, -1000000000.5772156, 9.9999999999999988e17),
    ("gammaln", 1000000.0, 13.815510057964191, 1.0000005000001667e-6),
    ("ellipk", -1000.0, 6.0676903231656356e-5, 8.3074075543875796e-8),
    ("ellipk", 1e-09, 0.39269908214051062, 0.44178646783145315),
    ("ellipk", 0.999999, 499998.30147127788, 499999874973.03798),
    ("ellipe", -1000.0, -0.01577708735936138, -7.8582052280648621e-6),
    ("ellipe", 1e-09, -0.39269908184598631, -0.14726215582109925),
    ("ellipe", 0.999999, -3.6470274303148754, -249997.57721950101),
    ("i0e", 1e-09, -0.9999999985, 1.4999999975),
    ("i0e", -5, 0.019568545664785996, 0.0063426379406635209),
    ("i0e", 10000.0, -1.9947862106984188e-7, 2.9922541317535869e-11),
    ("i1e", 1e-09, 0.499999999, -0.999999998125),
    ("i1e", -5, -0.013225907724122475, -0.0028614342819426684),
    ("i1e", 10000.0, -1.9944869852852435e-7, 2.9915060495153188e-11),
    ("k0", 1e-09, -999999999.99999993, 9.9999999999999989e17),
    ("k0", 600, -1.3569579181128061e-262, 1.3580901275250404e-262),
    ("exp1", 1e-09, -999999998.99999994, 9.9999999999999987e17),
    ("exp1", 700, -1.4085252205371101e-307, 1.4105373994235917e-307),
    ("j1", 1e-09, 0.5, -3.7500000000000002e-10),
    ("j1", 50, 0.057762564231755318, 0.096317572109289961),
    ("wrightomega", -50, 1.9287498479639178e-22, 1.9287498479639178e-22),
    ("wrightomega", 300, 0.99661378927267584, 1.1427595364974357e-5),
]


@pytest.mark.parametrize(("name", "x", "first", "second"), references)
def test_slopes_are_right_to_the_last_digits(name: str, x: float, first: float, second: float) -> None:
    slope = mg.grad(getattr(S, name))
    eps = np.finfo(float).eps
    conditioning = max(1, abs(x * second / first)) if first else 1  # what the rounding of x does
    np.testing.assert_allclose(slope(float(x)), first, rtol=40 * eps * conditioning)
    np.testing.assert_allclose(mg.grad(slope)(float(x)), second, rtol=2e-11)


def test_an_argument_without_a_derivative_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"scipy\.special\.jv has no elementary derivative by its argument 0"):
        mg.grad(S.jv)(0.5, 1.0)
    np.testing.assert_allclose(mg.grad(S.jv, 1)(0, 1.0), -S.j1(1.0))


def test_refusals_and_names() -> None:
    t = mg.Tensor([0.5], requires_grad=True)
    with pytest.raises(
        TypeError, match=r"scipy\.special\.zetac has no slope in this table: make .* minigrad\.primitive"
    ):
        S.zetac(t)
    for function in (S.lambertw, S.zeta):  # which are written in Python, and call others under names of their own
        with pytest.raises(TypeError, match=rf" in scipy\.special\.{function.__name__} has no slope in this table"):
            function(t)
    with pytest.raises(NotImplementedError, match=r"scipy\.special\.beta\.outer has no derivative in minigrad yet"):
        S.beta.outer(t, t)
    assert "from scipy.special.erf" in repr(S.erf(t))
    assert name_of(np.frompyfunc(abs, 1, 1)) == "abs (vectorized)"


def test_scipy_is_not_imported_until_a_function_of_it_meets_a_tensor() -> None:
    code = """
import sys, numpy as np, minigrad as mg, minigrad.scipy
assert "scipy" not in sys.modules
import scipy.special as S
assert "minigrad.scipy.special" not in sys.modules
print(mg.grad(S.j0)(0.5) + S.j1(0.5))
"""
    assert float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout) == 0


def test_edges() -> None:
    slope = lambda f, *args: float(mg.grad(f)(*args))
    assert slope(S.i0e, 0.0) == 0  # a kink
    assert slope(S.spence, 1.0) == -1
    np.testing.assert_array_equal(mg.grad(lambda x: np.sum(np.where(x > 0, S.xlogy(x, x), 0)))(np.zeros(2)), 0)


# --------------------------------------------------------------------------------- functions that SciPy has in Python


ROWS = np.array([[0.3, -1.2, 700.0], [-800.0, -801.5, -802.0]])


@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"axis": -1, "keepdims": True}, {"axis": (0, 1)}])
def test_logsumexp(options: dict[str, Any]) -> None:
    check = lambda x, **k: np.testing.assert_allclose(
        special.logsumexp(mg.Tensor(x), **k).data, S.logsumexp(x, **k), rtol=1e-14
    )
    check(ROWS, **options)
    check(ROWS, b=np.array([2.0, 0.0, 0.5]), **options)
    check_grads(lambda x: special.logsumexp(x, **options), [ROWS / 300])
    check_grads(lambda x, b: special.logsumexp(x, b=b, **options), [ROWS / 300, np.array([2.0, 1.0, 0.5])])


def test_logsumexp_of_infinities() -> None:
    inf = np.inf
    for x in ([-inf, -inf], [inf, 1.0], [-inf, 2.0], [np.nan, 1.0]):
        np.testing.assert_allclose(special.logsumexp(mg.Tensor(x)).data, S.logsumexp(x))
    np.testing.assert_array_equal(mg.grad(special.logsumexp)(np.array([-inf, 2.0])), [0, 1])
    assert np.isnan(special.logsumexp(mg.Tensor([1.0, 3.0]), b=np.array([1.0, -2.0])).data)
    for x in (mg.Tensor(np.ones((2, 3), np.float32)), np.ones((2, 3), np.float32)):
        assert special.logsumexp(x, 1).dtype == special.log_softmax(x, (0, 1)).dtype == np.float32


def test_the_other_functions() -> None:
    for name in ("softmax", "log_softmax"):
        ours, theirs = getattr(special, name), getattr(S, name)
        for axis in (None, 0, -1):
            np.testing.assert_allclose(ours(mg.Tensor(ROWS), axis).data, theirs(ROWS, axis), rtol=1e-13)
            check_grads(lambda x, f=ours, axis=axis: f(x, axis), [ROWS / 300])
    x = np.array([0.3, 1.5, 40.0])
    np.testing.assert_allclose(special.polygamma([0, 1, 3], mg.Tensor(x)).data, S.polygamma([0, 1, 3], x), rtol=1e-13)
    check_grads(lambda x: special.polygamma(np.array([0, 1, 3]), x), [x])
    np.testing.assert_allclose(special.multigammaln(mg.Tensor(x + 1), 3).data, S.multigammaln(x + 1, 3))
    assert np.isnan(special.multigammaln(mg.Tensor(0.9), 3).data)
    np.testing.assert_allclose(special.zeta(mg.Tensor(3.0)).data, S.zeta(3.0))
    check_grads(lambda q: special.zeta(2.5, q), [x])
    assert special.erf is S.erf


def test_a_program_of_special_functions_is_compiled() -> None:
    f = lambda x: np.sum(S.erf(x) * S.expit(x) + S.gammaln(x + 4))
    x = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(mg.compile(mg.grad(f))(x), mg.grad(f)(x), rtol=1e-14)
