"""Mechanism that every process shares: servers, channels, telemetry, settings, the bus, storage helpers.

No domain word stands here.
"""
