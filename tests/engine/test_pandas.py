"""Series and frames of pandas are taken as arrays, on either side of an operator and in NumPy's functions.

Products by @ are left to pandas, which refuses what it would have to take for an array.
"""

import operator
from typing import Any

import numpy as np
import pytest

import minigrad as mg

pd = pytest.importorskip("pandas")
FLOATS = np.array([1.0, 2.0, 3.0])
ACTS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
UFUNCS = [np.add, np.subtract, np.multiply, np.divide, np.power]
OTHERS = [pd.Series(FLOATS, index=[2, 1, 0]), pd.DataFrame(np.eye(3) + 1)]


@pytest.mark.parametrize("act", [*ACTS, *UFUNCS], ids=lambda act: f"{type(act).__name__}-{act.__name__}")
@pytest.mark.parametrize("other", OTHERS, ids=["Series", "DataFrame"])
def test_pandas_on_either_side(act: Any, other: Any) -> None:
    x = mg.Tensor(FLOATS + 1, requires_grad=True)
    for given, arrays in (((x, other), (x.data, np.asarray(other))), ((other, x), (np.asarray(other), x.data))):
        answer = act(*given)
        assert type(answer) is mg.Tensor
        assert answer.requires_grad
        np.testing.assert_allclose(answer.data, act(*arrays), rtol=1e-12)
