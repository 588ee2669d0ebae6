"""The same examples on every machine and every day."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "laws", derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("laws")
