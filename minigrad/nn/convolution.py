"""Layers that look through a window that moves over images or sequences: convolutions and pooling.

Their users see the batch first, (n, channels, *lengths); in memory it is last, so that every shifted window is a view
with long runs of numbers. Layers hand on arrays that lie so, and so do functions of elements between two of them.
"""

import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from minigrad.engine import Setting, Switch, as_array, setting
from minigrad.nn import init
from minigrad.nn.module import Module, positive
from minigrad.sample import Rng
from minigrad.tables.rules import unwindowed, windows

Lengths: TypeAlias = int | tuple[int, ...]

CACHED = 2**19  # elements of a matrix of windows that is made at a time
_cached: ContextVar[Setting | None] = ContextVar("cached", default=None)
at_once = Switch(_cached, sys.maxsize)  # there all windows are, so that the calls are the same for batches of any size


def spans_of(sizes: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """How long windows are whose elements do not lie side by side."""
    return [(size - 1) * dilation + 1 for size, dilation in zip(sizes, dilations, strict=True)]


def convolved(x: Any, weight: Any, bias: Any, strides: Sequence[int], dilations: Sequence[int], groups: int) -> Any:
    """The products of all windows with the weights, of images and for images with the batch last."""
    # A matrix of all windows has every number as often as a window has elements. It is made for some rows of the answer
    # at a time: these stay in the cache until they are multiplied, and little memory is needed at once.
    filters, _, *sizes = weight.shape
    n, axes = x.shape[-1], tuple(range(1, x.ndim - 1))
    spans = spans_of(sizes, dilations)
    counts = [(x.shape[i] - span) // stride + 1 for i, span, stride in zip(axes, spans, strides, strict=True)]
    weight = np.reshape(weight, (filters, -1) if groups == 1 else (groups, filters // groups, -1))
    bias = bias if bias is None else np.reshape(bias, (*weight.shape[:-1], 1))
    width, order = len(x) * math.prod(sizes), (0, *range(-len(axes), 0), *axes, x.ndim - 1)
    cached = CACHED if (found := setting(_cached)) is None else found.value
    rows = max(1, cached // max(1, width * math.prod(counts[1:]) * n))
    parts = []
    for start in range(0, counts[0], rows):
        stop = min(start + rows, counts[0])
        some = x if rows >= counts[0] else x[:, start * strides[0] : (stop - 1) * strides[0] + spans[0]]
        if math.prod(spans) > 1 or max(strides) > 1:
            some = np.transpose(windows(some, sizes=sizes, axes=axes, steps=strides, dilations=dilations), order)
        columns = (stop - start) * math.prod(counts[1:]) * n
        product = weight @ np.reshape(some, (*weight.shape[:-2], width // groups, columns))
        product = product if bias is None else product + bias
        parts.append(np.reshape(product, (filters, stop - start, *counts[1:], n)))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def at(x: Any, first: int, *slices: slice) -> Any:
    """Some elements along axes from the first one on."""
    return x[(slice(None),) * first + slices]


class Windowed(Module):
    """What layers of windows share: an option is one number, or one for each axis, and so are what they are given."""

    axes: ClassVar[int]
    seen: Callable[..., Any]  # what the layer makes of images with the batch last: such images

    def for_axes(self, **options: Any) -> Iterator[tuple[int, ...]]:
        """Options of which each axis has one."""
        for name, value in options.items():
            each = tuple(value) if isinstance(value, Sequence) else (value,) * self.axes
            least = int("padding" not in name)
            if len(each) != self.axes or any(not isinstance(n, (int, np.integer)) or n < least for n in each):
                wanted = f"an integer from {least} on, or {self.axes} of them"
                raise ValueError(f"{type(self).__name__} got {name}={value!r}: give {wanted}")
            yield each

    def forward(self, x: Any) -> Any:
        x, channels = as_array(x), getattr(self, "in_channels", None)
        wanted = f"(n, {channels or 'channels'}, {['length', 'height, width'][self.axes - 1]})"
        self.expect(x, x.ndim == self.axes + 2 and x.shape[1] == (channels or x.shape[1]), wanted)
        answer = self.seen(np.transpose(x, (*range(1, x.ndim), 0)))
        return np.transpose(answer, (answer.ndim - 1, *range(answer.ndim - 1)))

    def framed(self, x: Any, frame: Any, spans: Sequence[int], value: float = 0.0) -> Any:
        """Images with the batch last in a frame of one number, if a window of these spans fits in."""
        frame = [(each, each) if isinstance(each, int) else each for each in frame]
        if any(n + sum(both) < span for n, both, span in zip(x.shape[1:], frame, spans, strict=False)):
            padded = "with the padding they are smaller than its window"
            raise ValueError(f"{self!r} got images of {x.shape[1:-1]}, and {padded}, {tuple(spans)}.")
        return np.pad(x, ((0, 0), *frame, (0, 0)), constant_values=value) if any(map(any, frame)) else x


class Convolution(Windowed):
    """The sum of products of weights with every window, for each of the `out_channels`, plus the bias.

    `kernel_size`, `stride`, `padding` and `dilation` are one number for all axes, or one for each; `padding` may be
    "same", for a stride of 1, or "valid". Channels are in so many `groups`, each for itself. `weight` has shape
    (out_channels, in_channels / groups, *kernel_size) and `bias` (out_channels,), of a `dtype`, drawn by `rng` as in
    PyTorch.

    >>> Conv1d(2, 8, 3, padding="same", rng=0)(np.ones((4, 2, 5), np.float32)).shape
    (4, 8, 5)
    """

    forth: ClassVar[bool] = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Lengths, stride: Lengths = 1,
        padding: Lengths | str = 0, dilation: Lengths = 1, groups: int = 1, bias: bool = True, *,
        rng: Rng = None, dtype: DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        sizes = self.for_axes(kernel_size=kernel_size, stride=stride, dilation=dilation)
        sides: Any = padding
        self.kernel_size, self.stride, self.dilation, self.padding = *sizes, sides
        if not isinstance(padding, str) or not self.forth:
            (self.padding,) = self.for_axes(padding=padding)
        elif padding not in ("same", "valid") or (padding == "same" and max(self.stride) > 1):
            raise ValueError(f'{type(self).__name__} takes padding="same" (with a stride of 1) or "valid", or numbers')
        positive(self, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{type(self).__name__}: {groups} groups do not divide {in_channels} and {out_channels}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        rows, columns = (out_channels, in_channels) if self.forth else (in_channels, out_channels)
        shape = (rows, columns // groups, *self.kernel_size)
        self.weight, self.bias = init.weight_and_bias(shape, out_channels, bias, rng, dtype)

    def seen(self, x: Any) -> Any:
        frame, spans = self.padding, spans_of(self.kernel_size, self.dilation)
        if isinstance(frame, str):
            totals = [span - 1 if frame == "same" else 0 for span in spans]
            frame = [(total // 2, total - total // 2) for total in totals]
        x = self.framed(x, frame, spans)
        return convolved(x, self.weight, self.bias, self.stride, self.dilation, self.groups)


class ConvolutionTranspose(Convolution):
    """The adjoint of a convolution: every number of the input adds its multiple of the weights to a window.

    It makes (n - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1 of n. `weight` has shape
    (in_channels, out_channels / groups, *kernel_size) and `bias` (out_channels,).

    >>> ConvTranspose1d(2, 8, 2, stride=2, rng=0)(np.ones((4, 2, 5), np.float32)).shape
    (4, 8, 10)
    """

    forth = False

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Lengths, stride: Lengths = 1, padding: Lengths = 0,
        output_padding: Lengths = 0, groups: int = 1, bias: bool = True, dilation: Lengths = 1, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, **options)
        (self.output_padding,) = self.for_axes(output_padding=output_padding)
        if any(more >= max(two) for more, *two in zip(self.output_padding, self.stride, self.dilation, strict=True)):
            raise ValueError(f"output_padding={output_padding} is to be smaller than the stride, or the dilation")

    def seen(self, x: Any) -> Any:
        steps = zip(x.shape[1:], self.stride, spans_of(self.kernel_size, self.dilation), strict=False)
        full = [(n - 1) * stride + span for n, stride, span in steps]
        stops = [n - pad + more for n, pad, more in zip(full, self.padding, self.output_padding, strict=True)]
        if min(x.shape[1:-1]) < 1 or any(stop <= pad for stop, pad in zip(stops, self.padding, strict=True)):
            raise ValueError(f"{self!r} leaves nothing of images of {x.shape[1:-1]}: give larger ones, or pad less.")
        axes, groups, shape = tuple(range(1, self.axes + 1)), self.groups, (self.out_channels, *full, x.shape[-1])
        weight = np.swapaxes(np.reshape(self.weight, (groups, self.in_channels // groups, -1)), 1, 2)
        product = weight @ np.reshape(x, (groups, self.in_channels // groups, math.prod(x.shape[1:])))
        product = np.reshape(product, (self.out_channels, *self.kernel_size, *x.shape[1:]))
        product = np.transpose(product, (0, *range(self.axes + 1, product.ndim), *axes))
        windows = {"sizes": self.kernel_size, "axes": axes, "steps": self.stride, "dilations": self.dilation}
        answer = unwindowed(product, shape=shape, **windows)
        answer = self.framed(answer, [(0, max(stop - n, 0)) for stop, n in zip(stops, full, strict=True)], ())
        answer = at(answer, 1, *map(slice, self.padding, stops))
        return answer if self.bias is None else answer + np.reshape(self.bias, (-1, *(1,) * (self.axes + 1)))


class MaxPool(Windowed):
    """The largest number of every window; `stride` is by default that of windows side by side.

    A padding, of at most half the window, is never the largest. Where two maxima tie, they share the gradient evenly,
    where PyTorch's first one has it all. (Of its options, return_indices and ceil_mode are not here.)

    >>> MaxPool1d(2)(np.array([[[1.0, 3.0, 2.0, 0.0]]]))
    array([[[3., 2.]]])
    """

    combine: ClassVar[Callable[..., Any]] = staticmethod(np.maximum)
    outside: ClassVar[float] = -math.inf

    def __init__(self, kernel_size: Lengths, stride: Any = None, padding: Lengths = 0, dilation: Lengths = 1) -> None:
        stride = kernel_size if stride is None else stride
        sizes = self.for_axes(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
        self.kernel_size, self.stride, self.padding, self.dilation = sizes
        if any(2 * pad > size for pad, size in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(f"{type(self).__name__} takes a padding of at most half of the window, not {padding}")

    def seen(self, x: Any) -> Any:
        x = self.framed(x, self.padding, spans_of(self.kernel_size, self.dilation), self.outside)
        options = zip(self.kernel_size, self.stride, self.dilation, strict=True)
        for axis, (size, stride, dilation) in enumerate(options, 1):  # along one after the other, ...
            stop = x.shape[axis] - (size - 1) * dilation
            parts = [at(x, axis, slice(i, i + stop, stride)) for i in range(0, size * dilation, dilation)]
            while len(parts) > 1:  # ... two and two
                parts = [functools.reduce(self.combine, parts[i : i + 2]) for i in range(0, len(parts), 2)]
            x = parts[0]
        return x


class AvgPool(MaxPool):
    """The mean of every window, in which the padding counts as zeros.

    It has the options of MaxPool. (Of PyTorch's, ceil_mode, count_include_pad and divisor_override are not here.)

    >>> AvgPool1d(2)(np.array([[[1.0, 3.0, 2.0, 0.0]]]))
    array([[[2., 1.]]])
    """

    combine, outside = staticmethod(np.add), 0.0

    def seen(self, x: Any) -> Any:
        return super().seen(x) / math.prod(self.kernel_size)


class AdaptiveAvgPool(Windowed):
    """The mean of each of `output_size` windows, which is to divide the size of the input; 1 is for global pooling.

    >>> AdaptiveAvgPool1d(1)(np.array([[[1.0, 3.0, 2.0, 0.0]]]))
    array([[[1.5]]])
    """

    reduce: ClassVar[Callable[..., Any]] = staticmethod(np.mean)

    def __init__(self, output_size: Lengths) -> None:
        (self.output_size,) = self.for_axes(output_size=output_size)

    def seen(self, x: Any) -> Any:
        pairs = list(zip(x.shape[1:], self.output_size, strict=False))
        if any(not n or n % count for n, count in pairs):
            raise ValueError(f"{self!r} got images of {x.shape[1:-1]}, which are to be multiples of {self.output_size}")
        shape = (len(x), *(part for n, count in pairs for part in (count, n // count)), x.shape[-1])
        return self.reduce(np.reshape(x, shape), axis=tuple(range(2, 2 * self.axes + 1, 2)))


class AdaptiveMaxPool(AdaptiveAvgPool):
    """The largest of each of `output_size` windows; see `minigrad.nn.AdaptiveAvgPool1d`."""

    reduce = staticmethod(np.max)


def _with_axes(kind: Any, name: str) -> list[Any]:
    """The layer for one axis, and for two."""
    lengths = ["length", "height, width"]
    abouts = [f"{kind.__doc__.rstrip()}\n\n    Arrays are (n, channels, {each}).\n    " for each in lengths]
    its = [{"__doc__": about, "__module__": __name__, "axes": axes} for axes, about in enumerate(abouts, 1)]
    return [type(f"{name}{each['axes']}d", (kind,), each) for each in its]


Conv1d, Conv2d = _with_axes(Convolution, "Conv")
ConvTranspose1d, ConvTranspose2d = _with_axes(ConvolutionTranspose, "ConvTranspose")
MaxPool1d, MaxPool2d = _with_axes(MaxPool, "MaxPool")
AvgPool1d, AvgPool2d = _with_axes(AvgPool, "AvgPool")
AdaptiveAvgPool1d, AdaptiveAvgPool2d = _with_axes(AdaptiveAvgPool, "AdaptiveAvgPool")
AdaptiveMaxPool1d, AdaptiveMaxPool2d = _with_axes(AdaptiveMaxPool, "AdaptiveMaxPool")
