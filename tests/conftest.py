"""What every test shares: property tests that give the same result on every run and machine."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A slow machine must not fail a property by its clock; a failure must be there again next time.
settings.register_profile(
    "dgate", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dgate")
