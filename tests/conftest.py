"""How hard Hypothesis tries: `dev` quickly, `ci` the same every time, `thorough` where time is no matter.

HYPOTHESIS_PROFILE chooses; without it, it is `ci` where the variable CI is set, as every build server does.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the products here are small; read when NumPy is imported

from hypothesis import HealthCheck, settings

slow_is_fine = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=20, **slow_is_fine)
settings.register_profile("ci", max_examples=50, derandomize=True, database=None, **slow_is_fine)
settings.register_profile("thorough", max_examples=2000, **slow_is_fine)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
