"""`make test-faults`: kill every process of the mesh under load, again and again, and count what is lost or doubled.

Exit status: 0 every promise was kept; 1 one was broken, or the mesh did not recover; 2 Java, Maven or PostgreSQL is
missing.
"""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.faults import order
from tests.faults.mesh import running
from tests.faults.report import render, write_into
from tests.faults.result import Results
from tests.faults.run import run
from tests.faults.schedule import KINDS, schedule, targets
from tests.support.postgres import PostgresMissing, programs
from tools.kafka.archives import KafkaUnavailableError, class_path, java_command

ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = ROOT / ".cache" / "faults.json"
DOCUMENT: Final = ROOT / "docs" / "RELIABILITY.md"
# A round takes some 4 s here; start, audit and a machine that is three times slower are in it.
_SECONDS_A_ROUND: Final = 15.0
_FIXED_SECONDS: Final = 300.0
_ORDER_GATEWAYS: Final = 2


def main() -> int:
    """Run the command line; the exit status."""
    options = _options()
    try:
        java_command()
        class_path()
        if options.visitors or max(options.gateways) > 1:
            programs()
    except (KafkaUnavailableError, PostgresMissing) as error:
        say(str(error))
        return 2
    limit = options.rounds * _SECONDS_A_ROUND + _FIXED_SECONDS * (1 + len(options.gateways))
    results = Results.load(options.results) if options.resume else Results()
    try:
        asyncio.run(asyncio.wait_for(_run(options, results), limit))
    except asyncio.CancelledError:
        say("FAILED: told to end")
        return 1
    except (AssertionError, TimeoutError, ExceptionGroup) as failure:
        traceback.print_exception(failure)
        say(f"FAILED: {str(failure) or type(failure).__name__}")
        return 1
    figures = render(results)
    sys.stdout.write(figures + "\n")
    if options.document:
        write_into(DOCUMENT, figures)
    problems = results.problems(allow_doubled=options.allow_doubled)
    for problem in problems:
        say(f"FAILED: {problem}")
    return 1 if problems else 0


async def _run(options: argparse.Namespace, results: Results) -> None:
    task = asyncio.current_task()
    assert task is not None
    # A run that is told to end leaves no process behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if options.visitors:
        await _play_order(options, results)
        results.save(options.results)
    for share, gateways in enumerate(options.gateways):
        rounds = options.rounds // len(options.gateways) + (share < options.rounds % len(options.gateways))
        if rounds:
            await _play_rounds(options, results, gateways, rounds)
            results.save(options.results)


async def _play_order(options: argparse.Namespace, results: Results) -> None:
    with _Folder(options) as folder:
        say(f"order: {options.visitors} visitors, {_ORDER_GATEWAYS} gateways; starting")
        async with running(folder, _ORDER_GATEWAYS) as mesh:
            began = time.monotonic()
            found = await order.play(mesh, options.visitors)
            seconds = time.monotonic() - began
    results.order = {"date": datetime.now(UTC).date().isoformat(), **found.as_dict()}
    say(f"order: {found.inversions} inversions in {found.calls} calls, {seconds:.0f} s")


async def _play_rounds(options: argparse.Namespace, results: Results, gateways: int, rounds: int) -> None:
    first = results.rounds(gateways) + 1
    faults = schedule(options.seed, targets(gateways, options.only), rounds, first)
    with _Folder(options) as folder:
        say(f"{rounds} rounds with {gateways} gateway(s), seed {options.seed}; starting")
        piece = await run(folder, gateways, options.seed, faults, say)
    results.pieces.append(piece)
    say(f"{piece.acknowledged} acknowledged, {len(piece.lost)} lost, {len(piece.doubled)} doubled")


class _Folder:
    """A new folder for one mesh; it is removed at the end, unless the run failed and its logs are wanted."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._keep = options.keep
        self._path = Path(tempfile.mkdtemp(prefix="clew-faults-"))

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._keep or kind is not None:
            say(f"logs and data are in {self._path}")
        else:
            shutil.rmtree(self._path, ignore_errors=True)


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}\n")
    sys.stderr.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="kills, spread over --gateways (default 200)")
    parser.add_argument("--seed", type=int, default=None, help="repeats a run's kills; a random one is said at start")
    parser.add_argument("--gateways", type=int, nargs="+", default=[1, 2], help="meshes to test (default 1 and 2)")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, help="kill only these (default all)")
    parser.add_argument("--visitors", type=int, default=1000, help="of the order scenario; 0 leaves it out")
    parser.add_argument("--allow-doubled", action="store_true", help="a message that stands twice is no failure")
    parser.add_argument("--resume", action="store_true", help="add to the results of the last run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the results")
    parser.add_argument("--document", action="store_true", help="write the figures into docs/RELIABILITY.md")
    parser.add_argument("--keep", action="store_true", help="keep logs and data of a run without a failure too")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.randrange(1_000_000)
    return options
