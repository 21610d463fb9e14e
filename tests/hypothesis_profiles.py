"""Two profiles: short for every run, long with HYPOTHESIS_PROFILE=long. Neither has a deadline, for machines that are shared."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("short", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))
