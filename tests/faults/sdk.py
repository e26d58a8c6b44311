"""An unmodified client library under load, in a process of its own, until its standard input ends.

    python -m tests.faults.sdk LIBRARY URL WRITE_KEY

Then the library gets a minute to deliver what it holds. The program prints the message ids that were sent and those
that the library gave up, and ends, whatever the library still waits for: after many failures that may be minutes.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from rudderstack.analytics.client import Client as RudderClient
from segment.analytics.client import Client as SegmentClient

from mesh.ids import new_id

LIBRARIES: Final[dict[str, Callable[..., Any]]] = {"segment-python": SegmentClient, "rudder-python": RudderClient}
_CLIENTS: Final = 2
_EVENTS_PER_SECOND: Final = 25
_EVENTS_A_VISIT: Final = 10
_FINISH_SECONDS: Final = 60.0


class Sender(threading.Thread):
    """One client of the library and one visitor after the other who uses it."""

    def __init__(self, client_type: Callable[..., Any], url: str, write_key: str, stop: threading.Event) -> None:
        super().__init__(name="sender", daemon=True)
        self.sent: list[str] = []
        self.failed: list[str] = []
        self._stop_asked = stop
        self._client = client_type(write_key, host=url, on_error=self._give_up)

    def run(self) -> None:
        """Track until told to stop, then wait for the library."""
        visitor = ""
        for number in count():
            if self._stop_asked.wait(1 / _EVENTS_PER_SECOND):
                break
            visitor = visitor if number % _EVENTS_A_VISIT else new_id()
            taken, message = self._client.track(anonymous_id=visitor, event="E", properties={"number": number})
            # A library's full queue drops an event before it is sent, and says so.
            if taken:
                self.sent.append(message["messageId"])
        self._client.shutdown()

    def _give_up(self, _error: object, batch: list[dict[str, Any]]) -> None:
        self.failed += [message["messageId"] for message in batch]


def main() -> None:
    """Run until standard input ends, then print the books as one line of JSON."""
    library, url, write_key = sys.argv[1:]
    stop = threading.Event()
    senders = [Sender(LIBRARIES[library], url, write_key, stop) for _ in range(_CLIENTS)]
    for sender in senders:
        sender.start()
    sys.stdin.read()
    stop.set()
    deadline = time.monotonic() + _FINISH_SECONDS
    for sender in senders:
        sender.join(max(0.0, deadline - time.monotonic()))
    books = {
        "sent": [name for sender in senders for name in sender.sent],
        "failed": [name for sender in senders for name in sender.failed],
    }
    sys.stdout.write(json.dumps(books))
    sys.stdout.flush()
    # The libraries' threads are joined when the interpreter ends: not waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
