"""What lets SciPy's functions take Tensors, in modules named as SciPy's, which have all else that SciPy's have.

special     rules for its ufuncs, which take Tensors by themselves; and logsumexp, polygamma, ...
stats       densities and distribution functions
linalg      solve_triangular, cho_solve, expm, sqrtm, solve_sylvester
signal      convolve
integrate   odeint and solve_ivp, by the adjoint method
sparse      sparse matrices as constants
"""
