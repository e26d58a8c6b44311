"""A read-only Schema Registry for Confluent's clients, over a table that was compiled from the contracts."""

from mesh.registry.api import CONTENT_TYPE, SchemaRegistry

__all__ = ["CONTENT_TYPE", "SchemaRegistry"]
