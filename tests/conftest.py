"""Fixtures for all tests: what takes long to start is started once for the whole run."""

from tests.support.postgres import postgres, postgres_url

__all__ = ["postgres", "postgres_url"]
