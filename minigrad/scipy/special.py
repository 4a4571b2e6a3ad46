"""The derivatives of scipy.special: for each function the slope by each argument that has one.

Its ufuncs take Tensors by themselves: NumPy hands `scipy.special.erf(t)` over, and the first time that happens this is
imported. What SciPy writes in Python makes arrays of its arguments first: `logsumexp`, `softmax`, `log_softmax`,
`polygamma`, `multigammaln` and `zeta` are to be taken from here.

Formulas are those of the Digital Library of Mathematical Functions, https://dlmf.nist.gov, 6 to 19, each in the form
that loses no digits in the tails; but the relative error of the slopes of `ive` and `kve` grows as eps * x.
"""

import math
from typing import Any

import numpy as np
import scipy.special as S
from scipy.special import *  # noqa: F403

from minigrad.engine import as_array, call, composites, constant, refusals, vjps
from minigrad.tables.primitive import primitive
from minigrad.tables.rules import growth, slope

zero, none = None, ...  # the slope vanishes; there is none that SciPy could compute
PI, ROOT2, DEGREE = math.pi, math.sqrt(2), math.pi / 180
R, Q = 2 / math.sqrt(PI), math.sqrt(2 * PI)


def rule(function, position, slope):
    def by_slope(g, ans, *args):
        if slope is not none:
            return g * slope(ans, *args)
        raise NotImplementedError(
            f"scipy.special.{function.__name__} has no elementary derivative by its argument {position}, and that "
            "requires a gradient: pass it as an array, t.detach().data, or take differences of the function."
        )

    return zero if slope is zero else by_slope


def several(function, rule):
    """Give a function of one argument and several answers one rule for all of them, in one array."""
    together = lambda x: np.stack(function(x))
    together.__name__, vjps[together] = f"scipy.special.{function.__name__}", (rule,)
    composites[function] = lambda x: tuple(call(together, (x,)))


@constant
def peak(x, axis):
    """The largest numbers along an axis; 0 in place of what is not finite."""
    top = np.max(x, axis, keepdims=True, initial=-np.inf)
    return np.where(np.isfinite(top), top, 0).astype(top.dtype)


def logsumexp(a, axis=None, b=None, keepdims=False, return_sign=False):
    """The logarithm of the sum of `b * exp(a)`, without overflow; with `return_sign`, of its size, and its sign."""
    a = as_array(a) if b is None else np.where(np.equal(b, 0), -np.inf, a)
    top = peak(a, axis)
    total = np.sum((1 if b is None else b) * np.exp(a - top), axis, keepdims=True)
    answers = [S.xlogy(1, np.abs(total) if return_sign else total) + top, np.sign(total)]
    answers = answers if keepdims else [np.squeeze(x, axis) for x in answers]
    return tuple(answers) if return_sign else answers[0]


def polygamma(n, x):
    series = (-1.0) ** (np.asarray(n) + 1) * S.gamma(np.add(n, 1.0)) * zeta(np.maximum(n, 1) + 1.0, x)
    return np.where(np.equal(n, 0), S.psi(x), series)


def multigammaln(a, d):
    a = np.where(np.greater(a, (d - 1) / 2), a, np.nan)
    return d * (d - 1) / 4 * math.log(PI) + sum(S.gammaln(a - j / 2) for j in range(d))


def by_parameter(phi, m, a, integral):
    """Of an incomplete elliptic integral: Carlson's integral of less than a quarter of a turn, and full halves."""
    turns = np.round(phi / PI)
    s, full = np.sin(phi) * (1 - 2 * (turns % 2)), turns != 0
    whole = np.where(full, turns, 0) * S.hyp2f1(a, 1.5, 2, np.where(full, m, 0)) * (PI / 4)
    return s**3 / 6 * integral(np.cos(phi) ** 2, 1 - m * s * s) + whole


# fmt: off
less        = lambda x, axis: x - logsumexp(x, axis, keepdims=True)
log_softmax = lambda x, axis=None: less(x - peak(x, axis), axis)  # which keeps all digits
softmax     = lambda x, axis=None: np.exp(log_softmax(x, axis))
zeta: Any   = primitive(rule(S.zeta, 0, none), rule(S.zeta, 1, lambda ans, x, q: -x * zeta(x + 1, q))) \
              (lambda x, q=1.0: S.zeta(x, q))

# Helpers of the slopes: densities of the normal, gamma, beta, t and noncentral chi-squared distribution, ...
phi        = lambda x: np.exp(-x * x / 2) / Q
in_gamma   = lambda a, x: np.exp(S.xlogy(a - 1, x) - x - S.gammaln(a))
in_beta    = lambda a, b, x: np.exp(S.xlogy(a - 1, x) + S.xlog1py(b - 1, -x) - S.betaln(a, b))
in_t       = lambda df, x: np.exp(-S.betaln(df / 2, 0.5) - np.log(df) / 2 - (df + 1) / 2 * np.log1p(x * x / df))
in_chi2    = lambda x, df, nc: S.hyp0f1(df / 2, nc * x / 4) * in_gamma(df / 2, x / 2) * np.exp(-nc / 2) / 2
lower      = lambda n: np.where(n == 0, 0, n - 1)  # the degree of the derivative of a polynomial
mean       = lambda f, v, x: (f(v - 1, x) + f(v + 1, x)) / 2  # of two neighbours of a Bessel function
change     = lambda f, v, x: (f(v - 1, x) - f(v + 1, x)) / 2
by_power   = lambda log, y: log * log * S.hyp1f1(2, 3, y * log) / 2
by_root    = lambda ans, x, y: -ans * x * x * S.hyp2f1(2, 2, 3, -x * y) / 2
first      = lambda c, d: S.elliprd(c, 1, d)
second     = lambda c, d: S.elliprd(c, d, 1)
delta      = lambda angle, m: np.sqrt(np.cos(angle) ** 2 + (1 - m) * np.sin(angle) ** 2)
apart      = lambda ans, other, distance: (other - ans) / (2 * distance)  # of two of Carlson's integrals
of_erfcx   = lambda ans, x: np.where(x > 8, -R / 2 * S.hyperu(1, 0.5, np.maximum(x, 8) ** 2), 2 * x * ans - R)
# By the reflection formula in the left half, since psi has poles there where the slope has none.
mirrored   = lambda x, y: S.gamma(y) * (np.cos(PI * x) - S.psi(y) * np.sin(PI * x) / PI)
of_rgamma  = lambda ans, x: np.where(x < 0.5, mirrored(x, 1 - np.minimum(x, 0.5)), -ans * S.psi(np.maximum(x, 0.5)))
amplitude  = primitive(lambda g, ans, u, m: g * delta(ans, m), lambda g, ans, u, m: -g * delta(ans, m)
                       * by_parameter(ans, m, 1.5, first))(lambda u, m: S.ellipj(u, m)[3])

slopes: dict[Any, Any] = {  # lambda answer, *arguments; of functions of several arguments a tuple, or that by the last
    S.round: zero,                                       S.gammasgn: zero,
    S.cbrt: lambda ans, x: 1 / (3 * ans * ans),          S.log1p: lambda ans, x: 1 / (1 + x),
    S.exp2: lambda ans, x: ans * math.log(2),            S.exp10: lambda ans, x: ans * math.log(10),
    S.expm1: lambda ans, x: np.exp(x),                   S.cosm1: lambda ans, x: -np.sin(x),
    S.sindg: lambda ans, x: S.cosdg(x) * DEGREE,         S.cosdg: lambda ans, x: -S.sindg(x) * DEGREE,
    S.tandg: lambda ans, x: (1 + ans * ans) * DEGREE,    S.cotdg: lambda ans, x: -(1 + ans * ans) * DEGREE,
    S.expit: lambda ans, x: ans * S.expit(-x),           S.logit: lambda ans, x: 1 / (x * (1 - x)),
    S.log_expit: lambda ans, x: S.expit(-x),             S.exprel: lambda ans, x: S.hyp1f1(2, 3, x) / 2,
    S.wrightomega: lambda ans, x: ans / (1 + ans),       S.spence: lambda ans, x: -1 / S.exprel(np.log(x)),
    S.exp1: lambda ans, x: -np.exp(-x) / x,              S.expi: lambda ans, x: np.exp(x) / x,
    S.entr: lambda ans, x: -np.log(x) - 1,               S.erfcx: of_erfcx,
    S.erf: lambda ans, x: R * np.exp(-x * x),            S.erfc: lambda ans, x: -R * np.exp(-x * x),
    S.erfi: lambda ans, x: R * np.exp(x * x),            S.dawsn: lambda ans, x: S.hyp1f1(1, 0.5, -x * x),
    S.erfinv: lambda ans, x: np.exp(ans * ans) / R,      S.erfcinv: lambda ans, x: -np.exp(ans * ans) / R,
    S.ndtr: lambda ans, x: phi(x),                       S.log_ndtr: lambda ans, x: 2 / Q / S.erfcx(-x / ROOT2),
    S.ndtri: lambda ans, x: 1 / phi(ans),                S.ndtri_exp: lambda ans, x: Q / 2 * S.erfcx(-ans / ROOT2),
    S.gamma: lambda ans, x: ans * S.psi(x),              S.rgamma: of_rgamma,
    S.gammaln: lambda ans, x: S.psi(x),                  S.loggamma: lambda ans, x: S.psi(x),
    S.psi: lambda ans, x: zeta(2.0, x),                  S.ellipe: lambda ans, m: -PI / 8 * S.hyp2f1(0.5, 1.5, 2, m),
    S.ellipkm1: lambda ans, p: -S.elliprd(0, 1, p) / 6,  S.ellipk: lambda ans, m: PI / 8 * S.hyp2f1(1.5, 1.5, 2, m),
    S.j0: lambda ans, x: -S.j1(x),                       S.j1: lambda ans, x: change(S.jv, 1, x),
    S.y0: lambda ans, x: -S.y1(x),                       S.y1: lambda ans, x: change(S.yv, 1, x),
    S.i0: lambda ans, x: S.i1(x),                        S.i1: lambda ans, x: mean(S.iv, 1, x),
    S.k0: lambda ans, x: -S.k1(x),                       S.k1: lambda ans, x: -mean(S.kv, 1, x),
    S.k0e: lambda ans, x: ans - S.k1e(x),                S.k1e: lambda ans, x: ans - mean(S.kve, 1, x),
    S.i0e: lambda ans, x: -np.sign(x) * S.hyp1f1(1.5, 2, -2 * np.abs(x)),
    S.i1e: lambda ans, x: (S.hyp1f1(1.5, 3, -2 * np.abs(x)) - np.abs(x) * S.hyp1f1(2.5, 4, -2 * np.abs(x))) / 2,
    S.gammainc: lambda ans, a, x: in_gamma(a, x),        S.gammaincinv: lambda ans, a, y: 1 / in_gamma(a, ans),
    S.gammaincc: lambda ans, a, x: -in_gamma(a, x),      S.gammainccinv: lambda ans, a, y: -1 / in_gamma(a, ans),
    S.betainc: lambda ans, a, b, x: in_beta(a, b, x),    S.betaincinv: lambda ans, a, b, y: 1 / in_beta(a, b, ans),
    S.betaincc: lambda ans, a, b, x: -in_beta(a, b, x),  S.betainccinv: lambda ans, a, b, y: -1 / in_beta(a, b, ans),
    S.stdtr: lambda ans, df, x: in_t(df, x),             S.stdtrit: lambda ans, df, p: 1 / in_t(df, ans),
    S.jv: lambda ans, v, x: change(S.jv, v, x),          S.yv: lambda ans, v, x: change(S.yv, v, x),
    S.iv: lambda ans, v, x: mean(S.iv, v, x),            S.kv: lambda ans, v, x: -mean(S.kv, v, x),
    S.kve: lambda ans, v, x: ans - mean(S.kve, v, x),    S.ive: lambda ans, v, x: mean(S.ive, v, x) - np.sign(x) * ans,
    S.hyp0f1: lambda ans, b, x: S.hyp0f1(b + 1, x) / b,  S.hyperu: lambda ans, a, b, x: -a * S.hyperu(a + 1, b + 1, x),
    S.hyp1f1: lambda ans, a, b, x: a / b * S.hyp1f1(a + 1, b + 1, x),
    S.hyp2f1: lambda ans, a, b, c, x: a * b / c * S.hyp2f1(a + 1, b + 1, c + 1, x),
    S.expn: lambda ans, n, x: -np.where(n == 0, np.exp(-x) * (1 + x) / (x * x), S.expn(lower(n), x)),
    S.lpmv: lambda ans, m, v, x: ((v + m) * S.lpmv(m, v - 1, x) - v * x * ans) / ((1 - x) * (1 + x)),
    S.eval_legendre: lambda ans, n, x: (n != 0) * S.eval_gegenbauer(lower(n), 1.5, x),
    S.eval_chebyt: lambda ans, n, x: n * S.eval_chebyu(lower(n), x),
    S.eval_chebyu: lambda ans, n, x: 2 * (n != 0) * S.eval_gegenbauer(lower(n), 2, x),
    S.eval_gegenbauer: lambda ans, n, a, x: 2 * a * (n != 0) * S.eval_gegenbauer(lower(n), a + 1, x),
    S.eval_jacobi: lambda ans, n, a, b, x: (n + a + b + 1) / 2 * (n != 0) * S.eval_jacobi(lower(n), a + 1, b + 1, x),
    S.eval_sh_jacobi: lambda ans, n, p, q, x: n * S.eval_sh_jacobi(lower(n), p + 2, q + 1, x),
    S.eval_genlaguerre: lambda ans, n, a, x: -1.0 * (n != 0) * S.eval_genlaguerre(lower(n), a + 1, x),
    S.eval_hermite: lambda ans, n, x: 2 * n * S.eval_hermite(lower(n), x),
    S.eval_hermitenorm: lambda ans, n, x: n * S.eval_hermitenorm(lower(n), x),
    S.xlogy: (lambda ans, x, y: np.log(y),                      lambda ans, x, y: x / y),
    S.xlog1py: (lambda ans, x, y: np.log1p(y),                  lambda ans, x, y: x / (1 + y)),
    S.rel_entr: (lambda ans, x, y: np.log(x / y) + 1,           lambda ans, x, y: -x / y),
    S.kl_div: (lambda ans, x, y: np.log(x / y),                 lambda ans, x, y: 1 - x / y),
    S.powm1: (lambda ans, x, y: slope(x, y),                    lambda ans, x, y: growth(ans + 1, x, y)),
    S.boxcox: (lambda ans, x, y: x ** (y - 1),                  lambda ans, x, y: by_power(np.log(x), y)),
    S.boxcox1p: (lambda ans, x, y: (1 + x) ** (y - 1),          lambda ans, x, y: by_power(np.log1p(x), y)),
    S.inv_boxcox: (lambda ans, x, y: ans ** (1 - y),            lambda ans, x, y: by_root(ans, x, y)),
    S.inv_boxcox1p: (lambda ans, x, y: (1 + ans) ** (1 - y),    lambda ans, x, y: by_root(1 + ans, x, y)),
    S.huber: (lambda ans, d, r: np.maximum(np.abs(r) - d, 0),   lambda ans, d, r: np.clip(r, -d, d)),
    S.beta: (lambda ans, a, b: ans * (S.psi(a) - S.psi(a + b)), lambda ans, a, b: ans * (S.psi(b) - S.psi(a + b))),
    S.betaln: (lambda ans, a, b: S.psi(a) - S.psi(a + b),       lambda ans, a, b: S.psi(b) - S.psi(a + b)),
    S.poch: (lambda ans, z, m: ans * (S.psi(z + m) - S.psi(z)), lambda ans, z, m: ans * S.psi(z + m)),
    S.binom: (lambda ans, n, k: ans * (S.psi(n + 1) - S.psi(n - k + 1)),
              lambda ans, n, k: ans * (S.psi(n - k + 1) - S.psi(k + 1))),
    S.owens_t: (lambda ans, h, a: -phi(h) * S.erf(a * h / ROOT2) / 2,
                lambda ans, h, a: phi(h) * phi(a * h) / (1 + a * a)),
    S.chndtr: (lambda ans, x, df, nc: in_chi2(x, df, nc), none, lambda ans, x, df, nc: -in_chi2(x, df + 2, nc)),
    S.ellipkinc: (lambda ans, phi, m: 1 / delta(phi, m),        lambda ans, phi, m: by_parameter(phi, m, 1.5, first)),
    S.ellipeinc: (lambda ans, phi, m: delta(phi, m),            lambda ans, phi, m: -by_parameter(phi, m, 0.5, second)),
    S.elliprf: tuple(lambda ans, *xyz, i=i: -S.elliprd(*xyz[:i], *xyz[i + 1 :], xyz[i]) / 6 for i in range(3)),
    S.elliprd: (lambda ans, x, y, z: apart(ans, S.elliprd(y, z, x), x - z),
                lambda ans, x, y, z: apart(ans, S.elliprd(z, x, y), y - z),
                lambda ans, x, y, z: -(1.5 * ans + y * apart(ans, S.elliprd(z, x, y), y - z)
                     + apart(x * ans + z * ans, 3 * S.elliprf(x, y, z) - y * S.elliprd(z, x, y), x - z)) / z),
}
for function, given in slopes.items():
    given = given if isinstance(given, tuple) else (*[none] * (function.nin - 1), given)
    vjps[function] = [rule(function, i, slope) for i, slope in enumerate(given)]
several(S.sici,    lambda g, ans, x: g[0] * np.sinc(x / PI) + g[1] * np.cos(x) / x)
several(S.shichi,  lambda g, ans, x: g[0] * (S.exprel(x) + S.exprel(-x)) / 2 + g[1] * np.cosh(x) / x)
several(S.fresnel, lambda g, ans, x: g[0] * np.sin(PI / 2 * x * x) + g[1] * np.cos(PI / 2 * x * x))
several(S.airy,    lambda g, ans, x: g[0] * ans[1] + g[1] * x * ans[0] + g[2] * ans[3] + g[3] * x * ans[2])

whole = np.floor  # as SciPy takes counts and orders; some of these answer in double precision alone
composites.update({
    S.pseudo_huber: lambda d, r: d * d * S.boxcox1p((r / d) ** 2, 0.5) / 2,
    S.agm: lambda x, y: np.where(x < 0, -1, 1) * PI / 2 / S.elliprf(0.0, x * x, y * y),
    S.radian: lambda d, m, s: (d + m / 60 + s / 3600) * DEGREE, S.nrdtrimn: lambda p, sd, x: x - sd * S.ndtri(p),
    S.nrdtrisd: lambda m, p, x: (x - m) / S.ndtri(p),    S.gdtr: lambda a, b, x: S.gammainc(b, a * x),
    S.nbdtr: lambda k, n, p: S.betainc(whole(n), whole(k) + 1, p),
    S.jve: lambda v, x: S.jv(v, x),                      S.yve: lambda v, x: S.yv(v, x),  # of real numbers
    S.kn: lambda n, x: S.kv(whole(n), x),                S.yn: lambda n, x: S.yv(whole(n), x),
    S.chdtr: lambda df, x: S.gammainc(df / 2, x / 2),    S.chdtrc: lambda df, x: S.gammaincc(df / 2, x / 2),
    S.chdtri: lambda df, p: 2 * S.gammainccinv(df / 2, p),S.pdtr: lambda k, m: S.gammaincc(whole(k) + 1, m),
    S.gdtrc: lambda a, b, x: S.gammaincc(b, a * x),      S.gdtria: lambda p, b, x: S.gammaincinv(b, p) / x,
    S.gdtrix: lambda a, b, p: S.gammaincinv(b, p) / a,   S.pdtrc: lambda k, m: S.gammainc(whole(k) + 1, m),
    S.pdtri: lambda k, y: S.gammainccinv(whole(k) + 1, y),
    S.nbdtrc: lambda k, n, p: S.betaincc(whole(n), whole(k) + 1, p),
    S.nbdtri: lambda k, n, y: S.betaincinv(whole(n), whole(k) + 1, y),
    S.bdtr: lambda k, n, p: np.where(whole(k) == n, 1, S.betaincc(whole(k) + 1, n - whole(k), p)),
    S.bdtrc: lambda k, n, p: np.where(whole(k) == n, 0, S.betainc(whole(k) + 1, n - whole(k), p)),
    S.bdtri: lambda k, n, y: S.betainccinv(whole(k) + 1, n - whole(k), y),
    S.fdtr: lambda n, d, x: S.betainc(n / 2, d / 2, n * x / (d + n * x)),
    S.fdtrc: lambda n, d, x: S.betainc(d / 2, n / 2, d / (d + n * x)),
    S.fdtri: lambda n, d, p: d / n * S.betaincinv(n / 2, d / 2, p) / S.betainccinv(d / 2, n / 2, p),
    S.eval_laguerre: lambda n, x: S.eval_genlaguerre(n, 0.0, x), S.eval_chebys: lambda n, x: S.eval_chebyu(n, x / 2),
    S.eval_chebyc: lambda n, x: 2 * S.eval_chebyt(n, x / 2), S.eval_sh_chebyt: lambda n, x: S.eval_chebyt(n, 2 * x - 1),
    S.eval_sh_chebyu: lambda n, x: S.eval_chebyu(n, 2 * x - 1),
    S.eval_sh_legendre: lambda n, x: S.eval_legendre(n, 2 * x - 1),
    S.ellipj: lambda u, m: (lambda angle: (np.sin(angle), np.cos(angle), delta(angle, m), angle))(amplitude(u, m)),
})
# fmt: on

for function in [f for f in vars(S).values() if isinstance(f, np.ufunc) and f not in vjps and f not in composites]:
    given = "gives several answers" if function.nout > 1 else "has no slope in this table"
    is_real = all(dtype in "fdg" for dtype in function.types[0].partition("->")[2])
    given = given if is_real else "gives complex numbers"
    refusals[function] = f"{given}: make a function of your own of it, by minigrad.primitive"
