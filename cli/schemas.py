"""`clew schemas`: our schemas in a registry that is not ours, shown or registered."""

import json
import os
import sys
from collections.abc import Iterable
from importlib import resources
from typing import Final

from rich.markup import escape

from cli.terminal import console as terminal
from mesh.registry import SchemaRegistry
from mesh.registry.outside import OutsideRegistry, OutsideRegistryError, RegistrySettings
from mesh.registry.publishing import IncompatibleSchema, Publishing, SchemaMissing, Step
from mesh.settings import SettingsError, read_settings

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
PENDING: Final = 3
_FAILURES: Final = (OutsideRegistryError, IncompatibleSchema, SchemaMissing)


def show_plan(url: str, *, as_json: bool) -> int:
    """Print what the registry has and lacks; the exit status."""
    try:
        steps = _publishing(url).plan()
    except SettingsError as error:
        return _say(error, USAGE)
    except _FAILURES as error:
        return _say(error, FAILED)
    lacking = [step for step in steps if step.registered is None]
    _print(steps if as_json else lacking, "register", as_json=as_json)
    if lacking and not as_json:
        sys.stdout.write("`clew schemas apply` registers these\n")
    return PENDING if lacking else OK


def apply_plan(url: str, *, as_json: bool) -> int:
    """Register what is lacking and print it with its ids; the exit status."""
    done: list[Step] = []
    failure: Exception | None = None
    try:
        publishing = _publishing(url)
        done += publishing.apply()
        steps = publishing.plan() if as_json else done
    except SettingsError as error:
        return _say(error, USAGE)
    except _FAILURES as error:
        failure, steps = error, done
    if failure is None or done:
        _print(steps, "registered", as_json=as_json)
    return _say(failure, FAILED) if failure else OK


def _publishing(url: str) -> Publishing:
    settings = read_settings(RegistrySettings, {**os.environ, "CLEW_SCHEMA_REGISTRY": url})
    if not settings.url:
        raise SettingsError(["say which registry: --registry URL"])
    table = SchemaRegistry.load(resources.files("clew") / "registry.json").table
    return Publishing(table, OutsideRegistry(settings))


def _print(steps: Iterable[Step], verb: str, *, as_json: bool) -> None:
    if as_json:
        shown = [
            {
                "subject": step.subject,
                "schema": step.schema.id,
                "version": step.registered.version if step.registered else None,
                "id": step.registered.id if step.registered else None,
            }
            for step in steps
        ]
        sys.stdout.write(json.dumps({"pending": any(one["id"] is None for one in shown), "schemas": shown}, indent=2))
        sys.stdout.write("\n")
        return
    console = terminal(soft_wrap=True, highlight=False)
    empty = True
    for step in steps:
        empty = False
        place = f", version {step.registered.version}, id {step.registered.id}" if step.registered else ""
        console.print(f"[bold]{escape(step.subject)}[/bold]  {verb}{place}")
    if empty:
        console.print("all schemas are registered")


def _say(error: BaseException, status: int) -> int:
    sys.stderr.write(f"clew schemas: {error}\n")
    return status
