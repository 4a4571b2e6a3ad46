"""Distributions of scipy.stats by formulas that take Tensors, in their arguments and in all parameters.

They have SciPy's `logpdf`, `pdf`, `cdf`, `sf`, `logcdf`, `logsf`, or `logpmf` and `pmf`; in double precision, as there;
nan for parameters out of range, and no mass outside of the support. All else (`ppf`, `rvs`, `fit`, moments) is SciPy's.
By a parameter such as `a` of gamma the distribution function itself has no derivative: that raises.
"""

import functools
import math
from typing import Any

import numpy as np
import scipy.special as S
import scipy.stats
from scipy.stats import *  # noqa: F403

from minigrad.engine import as_array
from minigrad.scipy.linalg import solve_triangular
from minigrad.scipy.special import in_beta, in_gamma, in_normal, in_t

INF, NAN, MOST = math.inf, math.nan, float(np.finfo(float).max)


class Distribution:
    """A distribution of SciPy, with a logarithmic density of its own."""

    def __init__(self, name, logpdf):
        self.of_scipy, self.logpdf = getattr(scipy.stats, name), logpdf

    __getattr__ = lambda self, name: getattr(self.of_scipy, name)
    logpmf = property(lambda self: self.logpdf)
    pdf = pmf = lambda self, *args, **kwargs: np.exp(self.logpdf(*args, **kwargs))


class Family(Distribution):
    """One by its standard form: functions of a finite number and the parameters of shape."""

    def __init__(self, name, log, cdf, sf, logcdf=None, logsf=None, low=-MOST, high=MOST):
        super().__init__(name, functools.partial(self.value, 0, -INF, -INF))
        self.is_discrete, self.low, self.high = not hasattr(self.of_scipy, "pdf"), low, high
        log_of = lambda f, rest: lambda *x: np.where(f(*x) > 0.5, S.xlog1py(1, -rest(*x)), S.xlogy(1, f(*x)))
        self.shapes = (self.of_scipy.shapes or "").replace(",", "").split()
        self.forms = log, cdf, sf, logcdf or log_of(cdf, sf), logsf or log_of(sf, cdf)

    def value(self, form, left, right, x, *args, **kwargs):
        """A form at `x`, or what it is to the left and to the right of the support."""
        beside, positive = ({"loc"}, np.greater_equal) if self.is_discrete else ({"loc", "scale"}, np.greater)
        given = dict(zip([*self.shapes, *sorted(beside)], args, strict=False), **kwargs)
        if not {*self.shapes} <= {*given} <= {*self.shapes} | beside or len(args) > len({*self.shapes} | beside):
            raise TypeError(f"{self.of_scipy.name} has parameters {[*self.shapes, *sorted(beside)]}, not {[*given]}")
        loc, valid = given.pop("loc", 0.0), [positive(x, 0) for x in given.values()]
        given = {"scale": 1.0, **{name: np.where(positive(x, 0), x, 0.5) for name, x in given.items()}}
        z = (x - loc) / given["scale"]
        below, above = np.less(z, self.low), np.greater(z, self.high)
        below = below | np.greater(np.mod(z, 1), 0) if form == 0 and self.is_discrete else below
        inside = np.where(below | above, max(self.low, 0) + 0.5, z)
        answer = self.forms[form](inside, *map(given.get, self.shapes)) - S.xlogy(form == 0, given["scale"])
        answer = np.where(below, left, np.where(above, right, answer))
        return np.where(functools.reduce(np.logical_and, valid, True), answer, NAN)

    cdf, sf = functools.partialmethod(value, 1, 0.0, 1.0), functools.partialmethod(value, 2, 1.0, 0.0)
    logcdf, logsf = functools.partialmethod(value, 3, -INF, 0.0), functools.partialmethod(value, 4, 0.0, -INF)


def parts(mean, cov):
    """A mean, Cholesky's factor of a covariance matrix, and half of the logarithm of its determinant."""
    cov = as_array(cov)
    dim = len(cov) if mean is None and cov.ndim == 2 else np.size(0 if mean is None else mean)
    lower = np.linalg.cholesky(cov if cov.ndim == 2 else cov * np.eye(dim))
    return np.zeros(dim) if mean is None else mean, lower, np.sum(np.log(np.diagonal(lower)))


def of_vectors(x, mean=None, cov=1, allow_singular=False):
    if allow_singular:
        raise NotImplementedError("multivariate_normal of Tensors has no allow_singular: add to the diagonal of cov")
    (mean, lower, half), x = parts(mean, cov), as_array(x)
    from_mean = (x[..., None] if len(lower) == 1 and x.ndim < 2 else x) - mean
    z = solve_triangular(lower, np.reshape(from_mean, (-1, len(lower))).T, lower=True)
    return np.squeeze(np.reshape(np.sum(in_normal(z), 0) - half, from_mean.shape[:-1]))


def of_shares(x, alpha):
    x, alpha = as_array(x), as_array(alpha)
    x = x if len(x) == len(alpha) else np.concatenate([x, 1 - np.sum(x, 0, keepdims=True)])
    valid = np.all(np.greater_equal(x, 0), 0) & np.less(np.abs(np.sum(x, 0) - 1), 1e-9) & np.all(np.greater(alpha, 0))
    return np.where(valid, np.sum(S.xlogy(alpha - 1, x.T) - S.gammaln(alpha), -1) + S.gammaln(np.sum(alpha)), NAN)


# fmt: off
norm = Family("norm", in_normal, S.ndtr, lambda z: S.ndtr(-z), S.log_ndtr, lambda z: S.log_ndtr(-z))
t = Family("t", in_t, lambda z, df: S.stdtr(df, z), lambda z, df: S.stdtr(df, -z))
gamma = Family("gamma", in_gamma, lambda z, a: S.gammainc(a, z), lambda z, a: S.gammaincc(a, z), low=0)
beta = Family("beta", in_beta, lambda z, a, b: S.betainc(a, b, z), lambda z, a, b: S.betaincc(a, b, z), low=0, high=1)
expon = Family("expon", lambda z: -z, lambda z: -np.expm1(-z), lambda z: np.exp(-z), logsf=lambda z: -z, low=0)
chi2 = Family("chi2", lambda z, df: in_gamma(z / 2, df / 2) - math.log(2), lambda z, df: S.gammainc(df / 2, z / 2),
              lambda z, df: S.gammaincc(df / 2, z / 2), low=0)
poisson = Family("poisson", lambda k, mu: S.xlogy(k, mu) - S.gammaln(k + 1) - mu,
                 lambda k, mu: S.gammaincc(np.floor(k) + 1, mu), lambda k, mu: S.gammainc(np.floor(k) + 1, mu), low=0)
# fmt: on
multivariate_normal: Any = Distribution("multivariate_normal", of_vectors)
dirichlet = Distribution("dirichlet", of_shares)
multivariate_normal.entropy = lambda mean=None, cov=1: np.sum(0.5 - in_normal(0) + np.log(np.diag(parts(mean, cov)[1])))
