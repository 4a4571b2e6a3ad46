"""Profiles of Hypothesis: `dev` draws anew, `ci` the same every time, and `thorough` more. See tests/profiles.py."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the products here are small; read when NumPy is imported

from hypothesis import HealthCheck, settings
from profiles import PROFILE

slow_is_fine = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=10, **slow_is_fine)
settings.register_profile("ci", max_examples=10, derandomize=True, database=None, **slow_is_fine)
settings.register_profile("thorough", max_examples=100, **slow_is_fine)
settings.load_profile(PROFILE)
