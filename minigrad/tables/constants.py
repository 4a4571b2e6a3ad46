"""NumPy functions that have no derivative: those that are constants, and those that are refused, with the reason."""

import numpy as np

from minigrad.engine import constants, refusals

constants |= {
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
    *(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.left_shift, np.right_shift),
    *(np.isnan, np.isinf, np.isfinite, np.isneginf, np.isposinf, np.signbit, np.isclose, np.allclose),
    *(np.argmax, np.argmin, np.argsort, np.nonzero, np.flatnonzero, np.count_nonzero, np.argwhere, np.searchsorted),
    *(np.any, np.all, np.array_equal, np.array_equiv, np.iscomplexobj, np.isrealobj),
    *(np.shape, np.ndim, np.size, np.result_type, np.zeros_like, np.ones_like, np.empty_like),
    *(np.digitize, np.isin, np.lexsort, np.argpartition, np.nanargmax, np.nanargmin),
    *(np.isreal, np.iscomplex, np.isnat, np.gcd, np.lcm, np.bitwise_count),
    *(np.can_cast, np.common_type, np.min_scalar_type, np.diag_indices_from, np.tril_indices_from),
    *(np.triu_indices_from, np.einsum_path, np.unravel_index, np.ravel_multi_index, np.packbits, np.unpackbits),
    *(np.array_repr, np.array_str, np.array2string, np.shares_memory, np.may_share_memory),
}
constants.update(f.outer for f in (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal))
for logical in (np.logical_and, np.logical_or, np.logical_xor):
    constants.update((logical.outer, logical.reduce, logical.accumulate))

IN_PLACE = "writes into its argument, which a Tensor forbids: make a new one with minigrad.put or np.where"
SETS = "returns as many numbers as happen to differ, which has no derivative: index the Tensor with a set of places"
COUNTS = "counts, and counts have no derivative: pass t.detach().data, or use np.bincount for sums of weights"

# The names are separated by spaces, since not every NumPy has them all.
for reason, names in {
    IN_PLACE: "copyto fill_diagonal place put putmask put_along_axis",
    SETS: "unique unique_all unique_counts unique_inverse unique_values intersect1d union1d setdiff1d setxor1d",
    COUNTS: "histogram histogram2d histogramdd histogram_bin_edges",
    "finds eigenvalues: write np.linalg.eigvals of the companion matrix": "roots",
    "multiplies factors: write np.convolve of them": "poly",
    "sorts by both parts: write t[np.lexsort((np.imag(t), np.real(t)))]": "sort_complex",
    "writes numbers and no history: pass t.detach().data": "save savez savez_compressed savetxt",
    "is about dates and bits, not about real numbers": "busday_count busday_offset is_busday datetime_as_string",
    "is an old name: write np.trapezoid": "trapz",
    "is an old name: write np.isin": "in1d",
    "needs the Bessel function I1 for its derivative, which NumPy does not have": "i0",
    "gives a quotient and a rest of lengths that depend on the numbers: divide the coefficients yourself": "polydiv",
    "is a least-squares solution: write np.linalg.lstsq(np.vander(x, degree + 1), y)": "polyfit",
}.items():
    for name in names.split():
        if hasattr(np, name):
            refusals[getattr(np, name)] = reason

SLICES = "reduces slices, for which there is no rule: reduce each with ufunc.reduce(t[start:stop]), and np.stack them"

for function in vars(np).values():
    if isinstance(function, np.ufunc):
        refusals[function.at] = IN_PLACE.replace("put ", "put, minigrad.put_add ")
        refusals[function.reduceat] = SLICES
