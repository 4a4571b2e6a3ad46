"""Fourier transforms: all of numpy.fft, along one axis by rules, along several by those along one.

A transform multiplies by a symmetric matrix, so the rule of `fft` is `fft`. Of a spectrum of real numbers NumPy keeps
one half; the other one is its mirror image, so what stands for both counts twice.
"""

from typing import Any

import numpy as np

from minigrad.engine import composites, vjps
from minigrad.tables.rules import axes_of

# The norms of the way back.
UNDONE: dict[Any, Any] = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}

# fmt: off
vjps[np.fft.fft]   = lambda g, ans, x, n=None, axis=-1, norm=None: resized(np.fft.fft(g, None, axis, norm), x, axis),
vjps[np.fft.ifft]  = lambda g, ans, x, n=None, axis=-1, norm=None: resized(np.fft.ifft(g, None, axis, norm), x, axis),
vjps[np.fft.rfft]  = lambda g, ans, x, n=None, axis=-1, norm=None: resized(np.fft.irfft(
                     np.conjugate(g) / counts(x, n, axis), n or x.shape[axis], axis, UNDONE[norm]), x, axis),
vjps[np.fft.irfft] = lambda g, ans, x, n=None, axis=-1, norm=None: \
                     resized(np.conjugate(np.fft.rfft(g, None, axis, UNDONE[norm])) * counts(ans, n, axis), x, axis),

composites[np.fft.hfft]  = lambda a, n=None, axis=-1, norm=None: np.fft.irfft(np.conjugate(a), n, axis, UNDONE[norm])
composites[np.fft.ihfft] = lambda a, n=None, axis=-1, norm=None: np.conjugate(np.fft.rfft(a, n, axis, UNDONE[norm]))
composites[np.fft.fftshift]  = lambda x, axes=None: \
                               np.roll(x, [x.shape[i] // 2 for i in axes_of(x, axes)], axes_of(x, axes))
composites[np.fft.ifftshift] = lambda x, axes=None: \
                               np.roll(x, [-(x.shape[i] // 2) for i in axes_of(x, axes)], axes_of(x, axes))
# fmt: on


def resized(g, x, axis):
    """As long as `x` along an axis: cut, or filled up with zeros."""
    n, m, axis = x.shape[axis], g.shape[axis], axis % x.ndim
    if m < n:
        return np.concatenate([g, np.zeros((*g.shape[:axis], n - m, *g.shape[axis + 1 :]), g.dtype)], axis)
    return g if m == n else g[(slice(None),) * axis + (slice(n),)]


def counts(real, n, axis):
    """How often each number of the spectrum of real numbers counts in it: 1 at the ends, which are real, else 2."""
    n = n or real.shape[axis]
    found = np.full(n // 2 + 1, 2, real.dtype)
    found[n // 2 :] = 1 + n % 2
    found[0] = 1
    return found.reshape([-1 if i == axis % real.ndim else 1 for i in range(real.ndim)])


def along_several(last, others, axes=None):
    """A transform along several axes, of which the last one is special where numbers are real."""

    def spelling(a, s=None, axes=axes, norm=None):
        axes = range(-a.ndim if s is None else -len(s), 0) if axes is None else axes
        lengths = [a.shape[axis] for axis in axes]
        if not lengths and last in ("rfft", "irfft"):
            raise IndexError("a Fourier transform of real numbers needs an axis along which these are")
        if s is None and last == "irfft":
            lengths[-1] = 2 * (lengths[-1] - 1)
        elif s is not None and len(lengths) != len(s):
            raise ValueError(f"a Fourier transform along {len(axes)} axes needs as many lengths, not s={s}")
        elif s is not None:
            lengths = [whole if n == -1 else n for n, whole in zip(s, lengths, strict=True)]
        names = [*[others] * (len(axes) - 1), last][: len(axes)]
        jobs = list(zip(names, lengths, axes, strict=True))
        for name, n, axis in jobs if last == "irfft" else jobs[::-1]:
            a = getattr(np.fft, name)(a, n, axis, norm)
        return a

    return spelling


for last, others in {"fft": "fft", "ifft": "ifft", "rfft": "fft", "irfft": "ifft"}.items():
    composites[getattr(np.fft, f"{last}n")] = along_several(last, others)
    composites[getattr(np.fft, f"{last}2")] = along_several(last, others, axes=(-2, -1))
