"""Solutions of ordinary differential equations, differentiated by the adjoint method, to any order.

The gradient solves one more equation, backward, by the same solver with the same tolerances (L. Pontryagin and others,
1962; R. Chen and others, Neural ordinary differential equations, 2018, arXiv:1806.07366). It reaches `y0`, the times of
`odeint`, and Tensors in `args`, which may nest lists, tuples and dicts; where the function closes over one, TypeError.
"""

import numpy as np
import scipy.integrate
from scipy.integrate import *  # noqa: F403
from scipy.optimize import OptimizeResult

from minigrad.engine import Tensor, as_array, looked_at
from minigrad.tables.primitive import primitive
from minigrad.transforms import vjp
from minigrad.trees import flatten


def adjoint(g, ans, y0, t, *leaves, solve, f):
    """The gradients of all arguments; the state that runs backward is the solution, its gradient, those of leaves."""
    n, by_t, by_y, by_leaves = y0.size, [], g[-1], np.zeros(sum(x.size for x in leaves))
    flat = lambda *parts: np.concatenate([np.ravel(x) for x in parts])

    def backward(state, time, *leaves):
        dy, pullback = vjp(lambda y, *leaves: f(y, time, *leaves), state[:n], *leaves)
        return flat(dy, *pullback(-state[n : 2 * n]))

    for i in range(len(t) - 1, 0, -1):
        by_t.append(np.sum(g[i] * f(ans[i], t[i], *leaves)))
        start, times = flat(ans[i], by_y, by_leaves), np.stack([t[i], t[i - 1]])
        state = trajectory(start, times, *leaves, solve=solve, f=backward)[1]
        by_y, by_leaves = state[n : 2 * n] + g[i - 1], state[2 * n :]
    by_t.append(-np.sum((by_y - g[0]) * f(ans[0], t[0], *leaves)))
    parts = np.split(by_leaves, np.cumsum([x.size for x in leaves])[:-1]) if leaves else []
    return [by_y, np.stack(by_t[::-1]), *(part.reshape(x.shape) for part, x in zip(parts, leaves, strict=True))]


@primitive(joint=adjoint)
def trajectory(y0, t, *leaves, solve, f):
    """The solution of dy/dt = f(y, t, *leaves), one row for each time."""
    return solve(lambda y, time: np.asarray(f(y, time, *leaves)), y0, t)  # a Tensor from elsewhere raises


def of_tensors(function, args):
    """The function of two arguments and of the Tensors in `args`, and these."""
    leaves, rebuild = flatten(args)
    places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]

    def f(y, t, *tensors):
        given = dict(zip(places, tensors, strict=True))
        answer = function(y, t, *rebuild([given.get(i, x) for i, x in enumerate(leaves)]))
        return np.stack(answer) if isinstance(answer, (list, tuple)) else as_array(answer)

    return f, [leaves[i] for i in places]


def odeint(func, y0, t, args=(), tfirst=False, **options):
    """SciPy's; where Tensors are among `y0`, `t` and `args`, a Tensor, which has a row for each time."""
    f, tensors = of_tensors((lambda y, t, *args: func(t, y, *args)) if tfirst else func, args)
    if not any(isinstance(x, Tensor) for x in (y0, t, *tensors)):
        return scipy.integrate.odeint(func, y0, t, args, tfirst=tfirst, **options)
    if others := {*options} & {"Dfun", "col_deriv", "full_output", "ml", "mu", "tcrit"}:
        raise NotImplementedError(f"odeint of Tensors does not take {', '.join(sorted(others))}")
    solve = lambda f, y0, t: scipy.integrate.odeint(f, y0, t, **options)
    return trajectory(as_array(y0), as_array(t), *tensors, solve=solve, f=f)


def solve_ivp(fun, t_span, y0, method="RK45", t_eval=None, *, args=None, **options):
    """SciPy's; where Tensors are in `y0` or `args`, the `y` of the result is one. The times are constants."""
    f, tensors = of_tensors(lambda y, t, *args: fun(t, y, *args), args or ())
    if not any(isinstance(x, Tensor) for x in (y0, *tensors)):
        return scipy.integrate.solve_ivp(fun, t_span, y0, method, t_eval, args=args, **options)
    if others := {*options} & {"dense_output", "events", "vectorized", "jac", "jac_sparsity"}:
        raise NotImplementedError(f"solve_ivp of Tensors does not take {', '.join(sorted(others))}")

    def solve(f, y0, t):
        answer = scipy.integrate.solve_ivp(lambda t, y: f(y, t), (t[0], t[-1]), y0, method, t, **options)
        if not answer.success:
            raise RuntimeError(f"solve_ivp: {answer.message}")
        return answer.y.T

    if t_eval is None:
        plain = looked_at([y0, args])
        t_eval = scipy.integrate.solve_ivp(fun, t_span, plain[0], method, args=plain[1], **options).t
    first, last = int(t_eval[0] != t_span[0]), int(t_eval[-1] != t_span[1])
    times = np.concatenate([t_span[:first], t_eval, t_span[2 - last :]])
    rows = trajectory(as_array(y0), times, *tensors, solve=solve, f=f)[first : first + len(t_eval)]
    return OptimizeResult(t=np.array(t_eval), y=rows.T, sol=None, t_events=None, y_events=None, status=0, success=True)
