"""Fourier transforms: all of numpy.fft, along one axis by rules, along several by those along one.

A transform multiplies by a symmetric matrix, so the rule of `fft` is `fft`. Of a spectrum of real numbers NumPy keeps
one half; the other one is its mirror image, so what stands for both counts twice.
"""

from typing import Any

import numpy as np

from minigrad.engine import composites, vjps
from minigrad.tables.composites import composite
from minigrad.tables.rules import axes_of

# The norms of the way back.
UNDONE: dict[Any, Any] = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}

# fmt: off
vjps[np.fft.fft]   = lambda g, ans, x, n=None, axis=-1, norm=None: resized(np.fft.fft(g, None, axis, norm), x, axis),
vjps[np.fft.ifft]  = lambda g, ans, x, n=None, axis=-1, norm=None: resized(np.fft.ifft(g, None, axis, norm), x, axis),
vjps[np.fft.rfft]  = lambda g, ans, x, n=None, axis=-1, norm=None: \
                     resized(half_inverse(g, n or x.shape[axis], axis, norm), x, axis),
vjps[np.fft.irfft] = lambda g, ans, x, n=None, axis=-1, norm=None: \
                     resized(np.conjugate(np.fft.rfft(g, None, axis, UNDONE[norm])) * counts(ans, axis), x, axis),

composites[np.fft.hfft]  = lambda a, n=None, axis=-1, norm=None: np.fft.irfft(np.conjugate(a), n, axis, UNDONE[norm])
composites[np.fft.ihfft] = lambda a, n=None, axis=-1, norm=None: np.conjugate(np.fft.rfft(a, n, axis, UNDONE[norm]))
composites[np.fft.fftn]   = lambda a, s=None, axes=None, norm=None: along(np.fft.fft, a, jobs(a, s, axes)[::-1], norm)
composites[np.fft.ifftn]  = lambda a, s=None, axes=None, norm=None: along(np.fft.ifft, a, jobs(a, s, axes)[::-1], norm)
composites[np.fft.fft2]   = lambda a, s=None, axes=(-2, -1), norm=None: np.fft.fftn(a, s, axes, norm)
composites[np.fft.ifft2]  = lambda a, s=None, axes=(-2, -1), norm=None: np.fft.ifftn(a, s, axes, norm)
composites[np.fft.rfft2]  = lambda a, s=None, axes=(-2, -1), norm=None: np.fft.rfftn(a, s, axes, norm)
composites[np.fft.irfft2] = lambda a, s=None, axes=(-2, -1), norm=None: np.fft.irfftn(a, s, axes, norm)
composites[np.fft.fftshift]  = lambda x, axes=None: rolled(x, axes_of(x, axes), [n // 2 for n in x.shape])
composites[np.fft.ifftshift] = lambda x, axes=None: rolled(x, axes_of(x, axes), [-(n // 2) for n in x.shape])
# fmt: on


@composite(np.fft.rfftn)
def rfftn(a, s=None, axes=None, norm=None):
    *others, last = jobs(a, s, axes)
    return along(np.fft.fft, along(np.fft.rfft, a, [last], norm), others[::-1], norm)


@composite(np.fft.irfftn)
def irfftn(a, s=None, axes=None, norm=None):
    *others, last = jobs(a, s, axes)
    return along(np.fft.irfft, along(np.fft.ifft, a, others, norm), [last], norm)


def jobs(a, s, axes):
    """Along which axes to go, and to which length each, or None for its own."""
    axes = range(-a.ndim if s is None else -len(s), 0) if axes is None else axes
    lengths = [None] * len(axes) if s is None else [None if n in (None, -1) else n for n in s]
    if len(lengths) != len(axes):
        raise ValueError(f"a Fourier transform along {len(axes)} axes needs as many lengths, not s={s}")
    return list(zip(lengths, axes, strict=True))


def along(transform, a, some, norm):
    for n, axis in some:
        a = transform(a, n, axis, norm)
    return a


def rolled(x, axes, shifts):
    return np.roll(x, [shifts[i] for i in axes], axes)


def resized(g, x, axis):
    """As long as `x` along an axis: cut, or filled up with zeros."""
    n, m, axis = x.shape[axis], g.shape[axis], axis % x.ndim
    if m < n:
        return np.concatenate([g, np.zeros((*g.shape[:axis], n - m, *g.shape[axis + 1 :]), g.dtype)], axis)
    return g if m == n else g[(slice(None),) * axis + (slice(n),)]


def counts(whole, axis):
    """How often each number of the half spectrum of an array counts in it: 1 at the ends, which are real, else 2."""
    n = whole.shape[axis]
    found = np.full(n // 2 + 1, 2, whole.dtype)
    found[n // 2 :] = 1 + n % 2
    found[0] = 1
    return found.reshape([-1 if i == axis % whole.ndim else 1 for i in range(whole.ndim)])


def half_inverse(g, n, axis, norm):
    """The gradient of `n` real numbers, for that of their half spectrum: an inverse that does not count twice."""
    whole = np.broadcast_to(np.zeros((), g.real.dtype), [n if i == axis % g.ndim else k for i, k in enumerate(g.shape)])
    return np.fft.irfft(np.conjugate(g) / counts(whole, axis), n, axis, UNDONE[norm])
