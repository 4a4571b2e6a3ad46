"""The derivatives of scipy.special: for each function the slope by each argument that has one.

Its ufuncs take Tensors by themselves: NumPy hands `scipy.special.erf(t)` over, and the first time that happens this is
imported. What SciPy writes in Python makes arrays of its arguments first: `logsumexp`, `softmax`, `log_softmax`,
`polygamma`, `multigammaln` and `zeta` are to be taken from here.

Formulas are those of the Digital Library of Mathematical Functions, https://dlmf.nist.gov, 6 to 19, each in the form
that loses no digits in the tails; but relative errors grow as eps * x for the slopes of `ive` and `kve`, and as
eps * x**2 for that of `wofz`, and of complex numbers `erfcx` and `dawsn`. The slope of `rgamma` is nan at its zeros;
`psi` has one of real numbers alone.
"""

import math
from typing import Any

import numpy as np
import scipy.special as S
from numpy import exp
from scipy.special import *  # noqa: F403

from minigrad import nn
from minigrad.engine import as_array, call, composites, numbers_of, refusals, vjps
from minigrad.tables.primitive import primitive

zero, none = None, ...  # the slope vanishes; there is none that SciPy could compute
PI, ROOT2, R = math.pi, math.sqrt(2), 2 / math.sqrt(math.pi)


def rule(function, position, slope):
    def by_slope(g, ans, *args):
        if slope is not none:
            return g * slope(ans, *args)
        raise NotImplementedError(
            f"scipy.special.{function.__name__} has no elementary derivative by its argument {position}, and that "
            "requires a gradient: pass it as an array, t.detach().data, or take differences of the function."
        )

    return zero if slope is zero else by_slope


def logsumexp(a, axis=None, b=None, keepdims=False):
    """The logarithm of the sum of `b * exp(a)`, without overflow."""
    a = as_array(a) if b is None else np.where(np.equal(b, 0), -np.inf, a)
    top = np.nan_to_num(np.max(numbers_of(a), axis, keepdims=True, initial=-np.inf), nan=0, posinf=0, neginf=0)
    total = np.sum((1 if b is None else b) * exp(a - top), axis, keepdims=True)
    answer = S.xlogy(np.ones_like(total), total) + top
    return answer if keepdims else np.squeeze(answer, axis)


def polygamma(n, x):
    series = (-1.0) ** (np.asarray(n) + 1) * S.gamma(np.add(n, 1.0)) * zeta(np.maximum(n, 1) + 1.0, x)
    return np.where(np.equal(n, 0), S.psi(x), series)


def multigammaln(a, d):
    a = np.where(np.greater(a, (d - 1) / 2), a, np.nan)
    return d * (d - 1) / 4 * math.log(PI) + sum(S.gammaln(a - j / 2) for j in range(d))


def hurwitz(x, q=1.0):
    if np.iscomplexobj(q):
        raise NotImplementedError(
            "SciPy knows zeta(x, q), which the slope of psi is made of, of real q alone: take differences of psi."
        )
    return S.zeta(x, q)


# fmt: off
log_softmax = lambda x, axis=None: nn.log_softmax(as_array(x), axis)
softmax     = lambda x, axis=None: nn.softmax(as_array(x), axis)
zeta: Any   = primitive(rule(S.zeta, 0, none), rule(S.zeta, 1, lambda ans, x, q: -x * zeta(x + 1, q)))(hurwitz)

# The logarithms of the densities of the normal, gamma, beta, and t distribution, and other helpers of the slopes.
in_normal  = lambda x: -x * x / 2 - math.log(2 * PI) / 2
in_gamma   = lambda x, a: S.xlogy(a - 1, x) - x - S.gammaln(a)
in_beta    = lambda x, a, b: S.xlogy(a - 1, x) + S.xlog1py(b - 1, -x) - S.betaln(a, b)
in_t       = lambda x, df: -S.betaln(df / 2, 0.5) - np.log(df) / 2 - (df + 1) / 2 * np.log1p(x * x / df)
mean       = lambda f, v, x: (f(v - 1, x) + f(v + 1, x)) / 2  # of two neighbours of a Bessel function
change     = lambda f, v, x: (f(v - 1, x) - f(v + 1, x)) / 2
of_erfcx   = lambda ans, x: 2 * x * ans - R if np.iscomplexobj(x) else \
             np.where(x > 8, -R / 2 * S.hyperu(1, 0.5, np.maximum(x, 8) ** 2), 2 * x * ans - R)

slopes: dict[Any, Any] = {  # lambda answer, *arguments; of functions of several arguments a tuple, or that by the last
    S.gammasgn: zero,                                    S.ellipk: lambda ans, m: PI / 8 * S.hyp2f1(1.5, 1.5, 2, m),
    S.erfcx: of_erfcx,                                   S.ellipe: lambda ans, m: -PI / 8 * S.hyp2f1(0.5, 1.5, 2, m),
    S.cosm1: lambda ans, x: -np.sin(x),                  S.rgamma: lambda ans, x: -ans * S.psi(x),
    S.expit: lambda ans, x: ans * S.expit(-x),           S.logit: lambda ans, x: 1 / (x * (1 - x)),
    S.log_expit: lambda ans, x: S.expit(-x),             S.exprel: lambda ans, x: S.hyp1f1(2, 3, x) / 2,
    S.wrightomega: lambda ans, x: ans / (1 + ans),       S.ndtr: lambda ans, x: exp(in_normal(x)),
    S.spence: lambda ans, x: np.log(x) / (1 - x) if np.iscomplexobj(x) else -1 / S.exprel(np.log(x)),
    S.dawsn: lambda ans, x: 1 - 2 * x * ans if np.iscomplexobj(x) else S.hyp1f1(1, 0.5, -x * x),
    S.exp1: lambda ans, x: -exp(-x) / x,                 S.expi: lambda ans, x: exp(x) / x,
    S.entr: lambda ans, x: -np.log(x) - 1,               S.wofz: lambda ans, x: R * 1j - 2 * x * ans,
    S.erf: lambda ans, x: R * exp(-x * x),               S.erfc: lambda ans, x: -R * exp(-x * x),
    S.erfi: lambda ans, x: R * exp(x * x),               S.exp10: lambda ans, x: ans * math.log(10),
    S.erfinv: lambda ans, x: exp(ans * ans) / R,         S.erfcinv: lambda ans, x: -exp(ans * ans) / R,
    S.ndtri: lambda ans, x: exp(-in_normal(ans)),        S.log_ndtr: lambda ans, x: R / ROOT2 / S.erfcx(-x / ROOT2),
    S.gamma: lambda ans, x: ans * S.psi(x),              S.psi: lambda ans, x: zeta(2.0, x),
    S.gammaln: lambda ans, x: S.psi(x),                  S.loggamma: lambda ans, x: S.psi(x),
    S.j0: lambda ans, x: -S.j1(x),                       S.j1: lambda ans, x: change(S.jv, 1, x),
    S.y0: lambda ans, x: -S.y1(x),                       S.y1: lambda ans, x: change(S.yv, 1, x),
    S.i0: lambda ans, x: S.i1(x),                        S.i1: lambda ans, x: mean(S.iv, 1, x),
    S.k0: lambda ans, x: -S.k1(x),                       S.k1: lambda ans, x: -mean(S.kv, 1, x),
    S.k0e: lambda ans, x: ans - S.k1e(x),                S.k1e: lambda ans, x: ans - mean(S.kve, 1, x),
    S.i0e: lambda ans, x: -np.sign(x) * S.hyp1f1(1.5, 2, -2 * np.abs(x)),
    S.i1e: lambda ans, x: (S.hyp1f1(1.5, 3, -2 * np.abs(x)) - np.abs(x) * S.hyp1f1(2.5, 4, -2 * np.abs(x))) / 2,
    S.gammainc: lambda ans, a, x: exp(in_gamma(x, a)),   S.gammaincinv: lambda ans, a, y: exp(-in_gamma(ans, a)),
    S.gammaincc: lambda ans, a, x: -exp(in_gamma(x, a)), S.gammainccinv: lambda ans, a, y: -exp(-in_gamma(ans, a)),
    S.betainc: lambda ans, a, b, x: exp(in_beta(x, a, b)),   S.betaincc: lambda ans, a, b, x: -exp(in_beta(x, a, b)),
    S.betaincinv: lambda ans, a, b, y: exp(-in_beta(ans, a, b)),
    S.betainccinv: lambda ans, a, b, y: -exp(-in_beta(ans, a, b)),
    S.stdtr: lambda ans, df, x: exp(in_t(x, df)),        S.stdtrit: lambda ans, df, p: exp(-in_t(ans, df)),
    S.jv: lambda ans, v, x: change(S.jv, v, x),          S.yv: lambda ans, v, x: change(S.yv, v, x),
    S.hankel1: lambda ans, v, x: change(S.hankel1, v, x), S.hankel2: lambda ans, v, x: change(S.hankel2, v, x),
    S.iv: lambda ans, v, x: mean(S.iv, v, x),            S.kv: lambda ans, v, x: -mean(S.kv, v, x),
    S.kve: lambda ans, v, x: ans - mean(S.kve, v, x),    S.ive: lambda ans, v, x: mean(S.ive, v, x) - np.sign(x) * ans,
    S.hyp0f1: lambda ans, b, x: S.hyp0f1(b + 1, x) / b,  S.hyperu: lambda ans, a, b, x: -a * S.hyperu(a + 1, b + 1, x),
    S.hyp1f1: lambda ans, a, b, x: a / b * S.hyp1f1(a + 1, b + 1, x),
    S.hyp2f1: lambda ans, a, b, c, x: a * b / c * S.hyp2f1(a + 1, b + 1, c + 1, x),
    S.xlogy: (lambda ans, x, y: np.log(y),                      lambda ans, x, y: x / y),
    S.xlog1py: (lambda ans, x, y: np.log1p(y),                  lambda ans, x, y: x / (1 + y)),
    S.rel_entr: (lambda ans, x, y: np.log(x / y) + 1,           lambda ans, x, y: -x / y),
    S.kl_div: (lambda ans, x, y: np.log(x / y),                 lambda ans, x, y: 1 - x / y),
    S.huber: (lambda ans, d, r: np.maximum(np.abs(r) - d, 0),   lambda ans, d, r: np.clip(r, -d, d)),
    S.beta: (lambda ans, a, b: ans * (S.psi(a) - S.psi(a + b)), lambda ans, a, b: ans * (S.psi(b) - S.psi(a + b))),
    S.betaln: (lambda ans, a, b: S.psi(a) - S.psi(a + b),       lambda ans, a, b: S.psi(b) - S.psi(a + b)),
    S.poch: (lambda ans, z, m: ans * (S.psi(z + m) - S.psi(z)), lambda ans, z, m: ans * S.psi(z + m)),
    S.binom: (lambda ans, n, k: ans * (S.psi(n + 1) - S.psi(n - k + 1)),
              lambda ans, n, k: ans * (S.psi(n - k + 1) - S.psi(k + 1))),
}
for function, given in slopes.items():
    given = given if isinstance(given, tuple) else (*[none] * (function.nin - 1), given)
    vjps[function] = [rule(function, i, slope) for i, slope in enumerate(given)]
composites.update({
    S.cbrt: np.cbrt, S.exp2: np.exp2, S.expm1: np.expm1, S.log1p: np.log1p, S.round: np.rint,
    S.pseudo_huber: lambda d, r: r * r / (1 + np.hypot(1, r / d)),
    S.kn: lambda n, x: S.kv(np.floor(n), x),             S.yn: lambda n, x: S.yv(np.floor(n), x),
    S.ive: lambda v, x: S.iv(v, x) * exp(-np.abs(np.real(x))) if np.iscomplexobj(x) else call(S.ive, (v, x)),
})
# fmt: on

inside = vars(vars(S)["_ufuncs"])  # where those are that functions written in Python call, under names of their own
private = {inside.get(name): of for name, of in [("_lambertw", "lambertw"), ("_riemann_zeta", "zeta")]}
ufuncs = {f for f in (*vars(S).values(), *private) if isinstance(f, np.ufunc)}
for function in ufuncs - {*vjps, *composites}:
    given = f"in scipy.special.{private[function]} " if function in private else ""
    given += "gives several answers" if function.nout > 1 else "has no slope in this table"
    refusals[function] = f"{given}: make a function of your own of it, by minigrad.primitive"
