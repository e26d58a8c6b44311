"""`make test-weather`: disturb a Kafka of three brokers under load, fault after fault, and see what clients notice.

Two gateways over one PostgreSQL; every link from them to a broker goes through a relay that can be cut. After the last
fault the topics are read and compared with what clients were told.

Exit status: 0 every promise was kept; 1 one was broken, or the mesh did not recover; 2 something that it needs is
missing.
"""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.faults.ledger import imbalance
from tests.faults.main import DOCUMENT, ROOT, say
from tests.faults.mesh import FaultMesh, running
from tests.faults.report import write_into
from tests.faults.topic import read_copies
from tests.support.postgres import PostgresMissing, programs
from tests.support.topics import EVENTS, FAILED
from tests.weather import clock
from tests.weather.cluster import prepared
from tests.weather.disk import CannotMount, mounted
from tests.weather.faults import FAULTS, Fault, Place
from tests.weather.phase import Phase, Row, assess, play
from tests.weather.report import BEGIN, END, render
from tools.kafka.archives import KafkaUnavailableError, class_path, java_command

RESULTS: Final = ROOT / ".cache" / "weather.json"
_GATEWAYS: Final = 2
_SECONDS_A_FAULT: Final = 120.0
_FIXED_SECONDS: Final = 240.0


def main() -> int:
    """Run the command line; the exit status."""
    options = _options()
    chosen = [fault for fault in FAULTS if not options.only or fault.name in options.only]
    folder = Path(tempfile.mkdtemp(prefix="clew-weather-"))
    began = time.monotonic()
    try:
        java_command()
        class_path()
        clock.library()
        programs()
        limit = _FIXED_SECONDS + _SECONDS_A_FAULT * len(chosen)
        rows, ledger = asyncio.run(asyncio.wait_for(_run(folder, chosen), limit))
    except (KafkaUnavailableError, PostgresMissing, clock.FaketimeMissing, CannotMount) as error:
        say(str(error))
        return 2
    except asyncio.CancelledError:
        say("FAILED: told to end")
        return 1
    except (AssertionError, TimeoutError, ExceptionGroup) as failure:
        traceback.print_exception(failure)
        say(f"FAILED: {_reason(failure)}; logs and data are in {folder}")
        return 1
    return _tell(options, folder, rows, ledger, time.monotonic() - began)


def _tell(options: argparse.Namespace, folder: Path, rows: Sequence[Row], ledger: list[str], seconds: float) -> int:
    figures = render(datetime.now(UTC).date().isoformat(), rows, seconds, ledger)
    sys.stdout.write(figures + "\n")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([row.as_dict() for row in rows], indent=1), "utf-8")
    if options.document:
        write_into(DOCUMENT, figures, BEGIN, END)
    problems = [problem for row in rows for problem in row.problems] + [f"ledger: {what}" for what in ledger]
    for problem in problems:
        say(f"FAILED: {problem}")
    if problems or options.keep:
        say(f"logs and data are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if problems else 0


def _reason(failure: BaseException) -> str:
    """What went wrong first, of what went wrong at the same time."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return str(failure) or type(failure).__name__


async def _run(folder: Path, faults: Sequence[Fault]) -> tuple[list[Row], list[str]]:
    task = asyncio.current_task()
    assert task is not None
    # A run that is told to end leaves no process behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with ExitStack() as stack:
        async with prepared(folder / "kafka") as cluster:
            disk = stack.enter_context(mounted(cluster.kafka.nodes[-1]))
            say("three brokers, two gateways; starting")
            async with running(folder, _GATEWAYS, cluster=cluster.kafka) as mesh:
                phases = await _play(Place(mesh, cluster, disk), faults)
                say("reading the topics")
                return await _assess(mesh, cluster.direct, phases)


async def _play(place: Place, faults: Sequence[Fault]) -> list[Phase]:
    phases = []
    await place.warm_up()
    for fault in faults:
        phase = await play(fault, place)
        say(f"{fault.title}: {phase.end - phase.begin:.1f} s, {phase.load.client.claims.acknowledged:,} acknowledged")
        phases.append(phase)
    return phases


async def _assess(mesh: FaultMesh, kafka: str, phases: Sequence[Phase]) -> tuple[list[Row], list[str]]:
    counts = await mesh.ledger()
    events = await asyncio.to_thread(read_copies, kafka, EVENTS)
    failed = await asyncio.to_thread(read_copies, kafka, FAILED)
    filtered: set[str] = set()
    ledger = imbalance(
        counts, events=sum(map(len, events.values())), failed=sum(map(len, failed.values())), filtered=filtered
    )
    return [assess(phase, events, failed) for phase in phases], ledger


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.weather", description=__doc__)
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--only", nargs="+", choices=names, default=[], help="play only these faults (default all)")
    parser.add_argument("--document", action="store_true", help="write the figures into docs/RELIABILITY.md")
    parser.add_argument("--keep", action="store_true", help="keep logs and data of a run without a failure too")
    return parser.parse_args()
