"""What holds for every test, and the fixtures for all: what takes long to start is started once for the whole run."""

from hypothesis import HealthCheck, settings

from tests.support.postgres import postgres, postgres_url

__all__ = ["postgres", "postgres_url"]

# How long an example takes says something about the machine, not about the code: no test shall fail for it.
settings.register_profile("clew", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("clew")

pytest_plugins = ["tests.support.workers"]
