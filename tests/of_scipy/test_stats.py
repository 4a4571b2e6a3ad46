"""Distributions: values against SciPy's in the support, at its ends, outside, and for parameters out of range."""

import functools
from typing import Any

import numpy as np
import pytest
from profiles import scale

import minigrad as mg
from minigrad.testing import check_grads

scipy_stats = pytest.importorskip("scipy.stats")
stats = pytest.importorskip("minigrad.scipy.stats")

REALS = np.array([-2.0, -0.3, 0.0, 0.2, 0.5, 0.99, 1.0, 1.5, 3.0, 30.0, np.nan])
COUNTS = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 7.0, np.nan])
FAMILIES: dict[str, Any] = {"norm": (), "t": (2.5,), "gamma": (1.7,), "beta": (2.5, 0.7), "expon": (), "chi2": (3.0,),
                            "poisson": (1.7,)}  # fmt: skip
DISCRETE = ("poisson",)
rng = np.random.default_rng(0)


def forms(name: str) -> list[str]:
    return [*(["logpmf", "pmf"] if name in DISCRETE else ["logpdf", "pdf"]), "cdf", "sf", "logcdf", "logsf"]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore:::scipy")
@pytest.mark.filterwarnings("ignore:::numpy")
def test_values(name: str) -> None:
    ours, theirs = getattr(stats, name), getattr(scipy_stats, name)
    x = COUNTS if name in DISCRETE else REALS
    shapes = FAMILIES[name]
    others = [shapes, (*shapes, 1)] if name in DISCRETE else [shapes, (*shapes, 0.3, 1.7), (*shapes, 0, -1.0)]
    for parameters in [*others, tuple(-p for p in shapes)]:
        for form in forms(name)[: 2 if parameters[:1] < (0,) else None]:
            with np.errstate(all="ignore"):
                expected = getattr(theirs, form)(x, *parameters)
            found = getattr(ours, form)(mg.Tensor(x), *parameters).data  # without a warning
            rtol = 1e-6 if form in ("logcdf", "logsf") else 1e-12  # SciPy takes the logarithm of what is almost 1
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-16, err_msg=f"{form}{parameters}")


@pytest.mark.parametrize("name", FAMILIES)
def test_derivatives(name: str) -> None:
    ours, shapes = getattr(stats, name), [np.array(float(p)) for p in FAMILIES[name]]
    if name in DISCRETE:
        k = np.array([0.0, 1.0, 3.0])
        for form in ("logpmf", "pmf"):
            check_grads(lambda *p, form=form: getattr(ours, form)(k, *p), shapes)
        check_grads(lambda p: ours.logcdf(k, *FAMILIES[name][:-1], p), [shapes[-1]])
        return
    x = np.array([0.35, 0.6]) if name == "beta" else np.array([0.5, 1.3])
    for form in ("logpdf", "pdf"):
        check_grads(lambda x, *p, form=form: getattr(ours, form)(x, *p), [x, *shapes, np.array(0.1), np.array(1.2)])
    for form in ("cdf", "sf", "logcdf", "logsf"):
        moved = lambda x, loc, scale, form=form: getattr(ours, form)(x, *FAMILIES[name], loc=loc, scale=scale)
        check_grads(moved, [x, np.array(0.1), np.array(1.2)], order=scale(1, 2))


def test_outside_of_the_support_slopes_are_zero() -> None:
    x = np.array([-1.0, 2.0])
    for form in ("pdf", "cdf", "sf"):
        np.testing.assert_array_equal(mg.grad(lambda x, f=form: np.sum(getattr(stats.beta, f)(x, 2.0, 0.5)))(x), 0)


def test_tails() -> None:
    np.testing.assert_allclose(mg.grad(stats.norm.logsf)(30.0), -30.033259667433677, rtol=1e-14)
    np.testing.assert_allclose(mg.grad(stats.norm.logcdf)(-1000.0), 1000.000999998, rtol=1e-14)
    np.testing.assert_allclose(mg.grad(stats.expon.logsf)(800.0), -1)
    np.testing.assert_allclose(mg.grad(stats.norm.cdf)(-37.0), scipy_stats.norm.pdf(-37.0), rtol=1e-13)


def test_parameters() -> None:
    with pytest.raises(TypeError, match="gamma has parameters"):
        stats.gamma.logpdf(1.0)
    with pytest.raises(TypeError, match="poisson has parameters"):
        stats.poisson.logpmf(1.0, 2.0, scale=2.0)
    with pytest.raises(NotImplementedError, match=r"gammainc has no elementary derivative by its argument 0"):
        mg.grad(lambda a: stats.gamma.cdf(1.0, a))(2.0)
    assert stats.norm.mean(loc=3.0) == 3
    assert stats.pareto is scipy_stats.pareto


@pytest.mark.parametrize(
    ("x", "mean", "cov"),
    [((3,), (3,), (3, 3)), ((4, 3), (3,), (3, 3)), ((2, 4, 3), (3,), ()), ((4, 3), (3,), (3,)), ((4,), (), ()),
     ((), None, ()), ((4, 3), None, (3, 3))],
)  # fmt: skip
def test_multivariate_normal(x: Any, mean: Any, cov: Any) -> None:
    root = rng.normal(size=(3, 3))
    covariance = root @ root.T + np.eye(3) if len(cov) == 2 else rng.uniform(1, 2, cov)
    place, at = mean if mean is None else rng.normal(size=mean), rng.normal(size=x)
    found = stats.multivariate_normal.logpdf(mg.Tensor(at), place, covariance).data
    expected = scipy_stats.multivariate_normal.logpdf(at, place, covariance)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.shape == np.shape(expected)
    f = stats.multivariate_normal.pdf
    given = [np.asarray(at), covariance] if place is None else [np.asarray(at), place, covariance]
    check_grads((lambda x, c: f(x, None, c)) if place is None else f, given, order=scale(1, 2))
    entropy = stats.multivariate_normal.entropy(place, mg.Tensor(covariance)).data
    np.testing.assert_allclose(entropy, scipy_stats.multivariate_normal.entropy(place, covariance))


def test_dirichlet() -> None:
    alpha = np.array([0.7, 2.0, 3.0])
    x = rng.dirichlet(alpha, size=4).T
    for given in (x, x[:, 0], x[:2], x[:2, 0]):
        found = stats.dirichlet.logpdf(mg.Tensor(given), alpha).data
        np.testing.assert_allclose(found, scipy_stats.dirichlet.logpdf(given, alpha), rtol=1e-12)
    check_grads(functools.partial(stats.dirichlet.logpdf), [x[:2, 0], alpha])
    check_grads(lambda alpha: stats.dirichlet.pdf(x, alpha), [alpha])
    assert np.isnan(stats.dirichlet.logpdf(mg.Tensor([0.5, 0.6, 0.2]), alpha).data)
