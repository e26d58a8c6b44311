"""The ids that a process publishes with: our own registry's, or those of the one that it is configured with.

They are looked up once, at the start, and nothing is registered. What was found is remembered in the data directory:
an id never changes, so a registry that is down does not keep a gateway from starting again.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from mesh.registry.outside import (
    OutsideRegistry,
    OutsideRegistryError,
    OutsideRegistryUnreachable,
    RegistrySettings,
)
from mesh.registry.publishing import Publishing, SchemaMissing
from mesh.registry.table import SchemaTable
from mesh.settings import SettingsError

MEMORY: Final = "schema-ids.json"


async def published_ids(settings: RegistrySettings, table: SchemaTable, data_dir: Path | None) -> Mapping[str, int]:
    """The schema id of each message that stands on a topic, by its full name.

    Raises:
        SettingsError: The registry lacks a schema, or does not answer and its ids are not remembered.
    """
    if not settings.url:
        return table.messages
    memory = data_dir / MEMORY if data_dir else None
    try:
        found = await asyncio.to_thread(Publishing(table, OutsideRegistry(settings)).published)
    except OutsideRegistryUnreachable as error:
        remembered = _recall(memory, settings.url, table)
        if remembered is None:
            raise SettingsError([f"CLEW_SCHEMA_REGISTRY: {error}"]) from error
        structlog.get_logger().warning("schema registry does not answer, ids as remembered", problem=str(error))
        return remembered
    except SchemaMissing as error:
        advice = f"run `clew schemas apply --registry {settings.url}` before this gateway"
        raise SettingsError([f"CLEW_SCHEMA_REGISTRY: {error}: {advice}"]) from error
    except OutsideRegistryError as error:
        raise SettingsError([f"CLEW_SCHEMA_REGISTRY: {error}"]) from error
    _remember(memory, settings.url, table, found)
    structlog.get_logger().info("schema ids", registry=settings.url, ids=found)
    return found


def _remember(memory: Path | None, url: str, table: SchemaTable, found: Mapping[str, int]) -> None:
    if memory is None:
        return
    # By our own id of the schema: a later version of clew may publish another one.
    ids = {message: [table.messages[message], identifier] for message, identifier in found.items()}
    partial = memory.with_name(f"{memory.name}.new")
    partial.write_text(json.dumps({"registry": url, "ids": ids}), encoding="utf-8")
    partial.replace(memory)


def _recall(memory: Path | None, url: str, table: SchemaTable) -> dict[str, int] | None:
    """What was remembered of this registry, if it is of all the very schemas that are published now."""
    try:
        known = json.loads(memory.read_text(encoding="utf-8")) if memory else {}
        if known.get("registry") != url:
            return None
        ids = {
            message: int(theirs) for message, (ours, theirs) in known["ids"].items() if table.messages[message] == ours
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return ids if ids.keys() == table.messages.keys() else None
