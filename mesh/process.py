"""What every process does around its work: event loop, garbage collector, signals, exit status."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

from mesh.settings import SettingsError

# A thread that holds the interpreter gives it up after this long. Python's default of 5 ms is what a request waits for
# whenever the span exporter or the Kafka poll thread is at work.
SWITCH_INTERVAL_SECONDS: Final = 0.0005

EXIT_SETTINGS: Final = 2

# A busy process makes some hundred short-lived objects for each event, hardly any of them in cycles. With Python's
# default of 700 the collector looked for cycles after every few events, which took 6 % of the gateway's time.
_YOUNG_OBJECTS: Final = 20_000


def run_process(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a process's main coroutine to its end, on uvloop.

    Bad settings end the process with status 2 and a message on standard error that says what to set.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    # Whatever a process writes is its customers' data: for its own user's eyes only.
    os.umask(0o077)
    # gRPC reads it when it starts; its chatter about each lost connection is no JSON.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        sys.exit(EXIT_SETTINGS)


def freeze_heap() -> None:
    """Exempt what exists now from garbage collection; call it once, when everything is set up.

    Modules, descriptors and compiled constraints live as long as the process: walking them on every full collection
    costs a pause of tens of milliseconds and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets. The first one asks for a drain; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop
