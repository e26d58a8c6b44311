"""`clew topic read`: records of a topic, decoded."""

import os
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import KafkaException

from cli.endpoints import NotRunning
from cli.records import printable
from cli.terminal import console as terminal
from cli.topic.access import Access, on_interrupt
from cli.topic.errors import TopicError
from cli.topic.matching import select
from cli.topic.plan import partitions_of, plan
from cli.topic.reader import Reader, Stop, consumer
from cli.topic.schemas import Read, Schemas
from cli.topic.selection import SHORT_NAMES, Selection
from cli.topic.view import as_json, show

INTERRUPTED: Final = 130
"""The exit status of a command that Ctrl-C has ended before its end."""
_LOOK_SECONDS: Final = 0.5


def read(access: Access, selection: Selection, *, follow: bool, json_lines: bool, headers: bool) -> int:
    """Show the records; exit status 1 when they cannot be read, 130 when Ctrl-C came before the end."""
    stop = on_interrupt()
    console = terminal()
    shown = 0
    try:
        broker, schemas = access.broker(), access.schemas()
        with consumer(broker) as client:
            for found in selected(client, schemas, selection, stop, follow=follow):
                if json_lines:
                    sys.stdout.write(as_json(found) + "\n")
                else:
                    show(console, found, headers=headers)
                if follow:
                    sys.stdout.flush()
                shown += 1
    except (NotRunning, TopicError, KafkaException) as error:
        return complain("read", error)
    except BrokenPipeError:
        # Whoever reads has enough, like `head`. What is left in the buffer must not be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if not json_lines:
        tell(f"{shown} records of {selection.topic}")
    return INTERRUPTED if stop() and not follow else 0


def selected(
    client: Any, schemas: Schemas, selection: Selection, stop: Stop, *, follow: bool = False
) -> Iterator[Read]:
    """The records that are meant, the oldest first, up to the limit; then, when told to, those that come.

    Raises:
        TopicError: There is no such topic.
        KafkaException: The brokers do not answer.
    """
    if selection.topic in SHORT_NAMES.values() and not partitions_of(client, selection.topic):
        tell(f"{selection.topic} does not exist yet: nothing was written to it")
        while follow and not stop() and not partitions_of(client, selection.topic):
            time.sleep(_LOOK_SECONDS)
        if not partitions_of(client, selection.topic):
            return
    made = plan(client, selection)
    for note in made.notes:
        tell(note)
    reader = Reader(client, selection.topic, made, stop)
    count = 0
    for records in (reader.bounded(), reader.following() if follow else ()):
        for raw in records:
            found = select(selection, schemas, raw)
            if found is not None:
                yield found
                count += 1
            if selection.limit and count >= selection.limit:
                return


def tell(text: str) -> None:
    """Say something beside the records, where no pipe sees it."""
    sys.stderr.write(printable(text) + "\n")


def complain(command: str, error: Exception) -> int:
    """Say what went wrong; the exit status for it."""
    words = error.args[0].str() if isinstance(error, KafkaException) else str(error)
    tell(f"clew topic {command}: {words}")
    return 1
