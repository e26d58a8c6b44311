"""`clew topics`: the plan for a real cluster, shown or applied; and the topics that `clew up --kafka` finds missing."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from rich.markup import escape

from cli.endpoints import Endpoints, KafkaAway, NotRunning, require_kafka
from cli.terminal import console as terminal
from mesh.bus.kafka_client import KafkaSettings
from mesh.settings import SettingsError, read_settings
from mesh.topics.cluster import ClusterError, TopicAdmin
from mesh.topics.declaration import Declaration, DeclarationError, read_declaration, read_overlay
from mesh.topics.plan import Change, Create, NotPossible, Permission, Plan, make_plan

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
PENDING: Final = 3
_UP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster, and what is to differ there from what is declared."""

    data_dir: Path
    kafka: str
    file: Path | None
    replicas: int | None


def declared_topics(file: Path | None = None) -> Declaration:
    """What ships with the contracts, under an operator's file.

    Raises:
        DeclarationError: The file cannot be used.
    """
    table = json.loads((resources.files("clew") / "topics.json").read_text(encoding="utf-8"))
    return read_declaration(read_overlay(file, table) if file else table)


def show_plan(where: Where, *, as_json: bool) -> int:
    """Print the plan; the exit status."""
    try:
        _, plan = _look(where)
    except _FAILURES as error:
        return _say(error)
    if as_json:
        _print_json(plan, done=())
    else:
        _print(plan.changes, plan.notes)
        if plan.changes:
            sys.stdout.write("`clew topics apply` makes these changes\n")
    return PENDING if plan.changes else OK


def apply_plan(where: Where, permissions: Sequence[Permission], *, as_json: bool) -> int:
    """Make what the permissions allow, print what was made and what was not; the exit status."""
    done: list[Change] = []
    plan = Plan((), ())
    try:
        admin, plan = _look(where)
        for change in admin.apply(plan.allowed(permissions)):
            done.append(change)
            if not as_json:
                _print((change,), (), made=True)
    except _FAILURES as error:
        if done and as_json:
            # What was made stands, whatever came after it.
            _print_json(plan, done)
        return _say(error)
    left = [change for change in plan.changes if change not in done]
    if as_json:
        _print_json(plan, done)
    else:
        if left:
            sys.stdout.write("not done, since it cannot be undone:\n")
        _print(left, plan.notes, nothing=not plan.changes)
    return PENDING if left else OK


def create_missing(kafka: str) -> list[str]:
    """Make the topics that a cluster lacks and change none that is there: what `clew up --kafka` does first.

    Returns:
        What was done, and what else differs, for people.

    Raises:
        TopicsNotMade: Kafka does not answer or refuses, or has too few brokers.
    """
    try:
        return list(_create_missing(kafka))
    except _FAILURES as error:
        raise TopicsNotMade(str(error)) from error


def _create_missing(kafka: str) -> Iterator[str]:
    admin = TopicAdmin(_settings(kafka), seconds=_UP_SECONDS)
    topics = declared_topics().topics
    plan = make_plan(topics, admin.observe(topic.name for topic in topics))
    missing = [change for change in plan.changes if isinstance(change, Create)]
    if missing:
        yield f"topics created: {', '.join(change.topic for change in admin.apply(missing))}"
    if rest := sorted({change.topic for change in plan.changes if change not in missing}):
        yield f"topics not as declared: {', '.join(rest)}; see `clew topics plan --kafka {kafka}`"


class TopicsNotMade(Exception):
    """Topics that are missing could not be made; the message says why."""


class _NoCluster(Exception):
    """Which cluster is meant is not known; the message says what to do."""


_FAILURES: Final = (
    ClusterError,
    DeclarationError,
    NotPossible,
    SettingsError,
    _NoCluster,
    KafkaAway,
    OSError,
    ValueError,
)


def _look(where: Where) -> tuple[TopicAdmin, Plan]:
    topics = declared_topics(where.file).topics
    kafka = where.kafka or _running(where.data_dir)
    # What is wrong with a file is told before what is wrong with the network.
    settings = _settings(kafka)
    require_kafka(kafka)
    admin = TopicAdmin(settings)
    return admin, make_plan(topics, admin.observe(topic.name for topic in topics), where.replicas)


def _running(data_dir: Path) -> str:
    try:
        return Endpoints.read(data_dir).kafka
    except NotRunning as error:
        raise _NoCluster(f"{error}, or say which cluster: --kafka HOST:PORT") from error


def _settings(kafka: str) -> KafkaSettings:
    """How to reach it: the address, and what the environment says of TLS and SASL."""
    return read_settings(KafkaSettings, {**os.environ, "CLEW_KAFKA": kafka})


def _say(error: BaseException) -> int:
    sys.stderr.write(f"clew topics: {error}\n")
    return USAGE if isinstance(error, (DeclarationError, SettingsError)) else FAILED


def _print(changes: Iterable[Change], notes: Iterable[str], *, made: bool = False, nothing: bool = True) -> None:
    console = terminal(soft_wrap=True, highlight=False)
    shown, notes = list(changes), list(notes)
    for change in shown:
        needs = f"  [yellow]needs {change.needs.value}[/yellow]" if change.needs else ""
        what = f"done: {change}" if made else str(change)
        console.print(f"[bold]{escape(change.topic)}[/bold]  {escape(what)}{needs if not made else ''}")
    for note in notes:
        console.print(f"note: {escape(note)}")
    if not shown and nothing:
        console.print("all topics are as declared" + (", but for what the notes say" if notes else ""))


def _print_json(plan: Plan, done: Sequence[Change]) -> None:
    changes = [_as_json(change) | {"done": change in done} for change in plan.changes]
    pending = any(not change["done"] for change in changes)
    sys.stdout.write(json.dumps({"pending": pending, "changes": changes, "notes": plan.notes}, indent=2) + "\n")


def _as_json(change: Change) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(change).items() if name != "needs"}
    return {"kind": change.verb, **fields, "needs": change.needs.value if change.needs else None}
