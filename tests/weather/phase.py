"""One fault under load: some calm, the fault, until all is well again, and a look at what was sent meanwhile."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from tests.faults.audit import Copies, audit
from tests.faults.load import Client
from tests.weather.faults import Fault, Place
from tests.weather.figures import Latency, inversions, latency, p99_before, slow_seconds
from tests.weather.load import Load

_WARM_UP_SECONDS: Final = 1.5
_CALM_SECONDS: Final = 5.0
# As long must answers be quick, and nothing may wait for longer.
_WELL_SECONDS: Final = 2.0
_RECOVERY_SECONDS: Final = 90.0
_MOST_RETRY_SECONDS: Final = 2.0
_OK: Final = "200"


class NotRecovered(AssertionError):
    """After a fault was mended answers stay away, or slow."""


@dataclass(slots=True)
class Phase:
    """A fault that was played; `begin` and `end` in Unix seconds, `end` when it was mended."""

    fault: Fault
    load: Load
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Row:
    """What is told of one fault.

    Attributes:
        lasted: Seconds from its beginning until it was mended, the start of what was ended included.
        before, during, back: See `Latency`.
        misplaced: Events that were accepted and filed as failed all the same.
        refused: How often clients were answered with something else than 200, by status or error.
        unseen: That must not happen.
    """

    name: str
    title: str
    acknowledged: int
    duplicates: int
    lost: int
    doubled: int
    inversions: int
    lasted: float
    before: float
    during: float
    back: float
    refused: dict[str, int] = field(default_factory=dict)
    unseen: bool = False
    misplaced: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For the results' file."""
        return asdict(self)

    @property
    def problems(self) -> list[str]:
        """Which promise was broken; empty when none was."""
        found = {"lost": self.lost, "doubled": self.doubled, "out of order": self.inversions}
        found["on the wrong topic"] = self.misplaced
        found["answered with an error"] = sum(self.refused.values()) if self.unseen else 0
        return [f"{self.name}: {count:,} events {what}" for what, count in found.items() if count]


async def play(fault: Fault, place: Place) -> Phase:
    """Play a fault and wait until nothing of it is left.

    Raises:
        NotRecovered: Answers stay slow, or away.
        NotWhole: Replicas do not come together again.
        TimeoutError: What was under way at the end is not acknowledged.
    """
    # Hundreds of clients wait for the end of an outage: without a pause they would be one of their own.
    client = Client(place.mesh.gateways, place.mesh.write_key, "", most_retry_seconds=_MOST_RETRY_SECONDS)
    load = Load(client, stay=fault.unseen)
    await fault.prepare(place)
    async with load.running():
        await asyncio.sleep(_WARM_UP_SECONDS)
        load.probes.clear()
        await asyncio.sleep(_CALM_SECONDS)
        begin = time.time()
        await fault.play(place)
        end = time.time()
        await _await_well(fault, load, begin)
        await place.cluster.await_whole()
    await fault.restore(place)
    place.mesh.check()
    return Phase(fault, load, begin, end)


async def _await_well(fault: Fault, load: Load, begin: float) -> None:
    """Return when nothing waits for long any more, and answers of some time were mostly quick.

    Mostly: a machine that others use has slow moments of its own.
    """
    limit = slow_seconds(p99_before(load.probes, begin))
    deadline = time.time() + _RECOVERY_SECONDS
    while True:
        await asyncio.sleep(0.2)
        now = time.time()
        recent = [probe.seconds for probe in load.probes if probe.acknowledged > now - _WELL_SECONDS]
        if not load.overdue(now - max(limit, _WELL_SECONDS)) and recent and median(recent) <= limit:
            return
        if now > deadline:
            raise NotRecovered(
                f"{fault.title}: long after it was mended {len(load.waiting)} probes wait, the first one for"
                f" {now - min(load.waiting, default=now):.1f} s, and half of {len(recent)} answers take more than"
                f" {median(recent) if recent else 0:.2f} s, where {limit:.2f} s is slow; {dict(load.client.answers)}"
            )


def assess(phase: Phase, events: Copies, failed: Copies) -> Row:
    """Compare what the phase's clients were told with what is on the topics."""
    load, claims = phase.load, phase.load.client.claims
    own = _of(events, claims.sent)
    findings = audit(claims, own, _of(failed, claims.sent), [])
    measured: Latency = latency(load.probes, phase.begin, phase.end)
    answers: Counter[str] = load.client.answers
    return Row(
        name=phase.fault.name,
        title=phase.fault.title,
        acknowledged=claims.acknowledged,
        duplicates=claims.duplicates,
        lost=len(findings.lost),
        doubled=len(findings.doubled),
        inversions=sum(inversions(journey, own) for journey in load.journeys),
        lasted=phase.end - phase.begin,
        before=measured.before,
        during=measured.during,
        back=measured.back,
        refused={what: count for what, count in sorted(answers.items()) if what != _OK},
        unseen=phase.fault.unseen,
        misplaced=len(findings.leaked),
    )


def _of(copies: Copies, sent: set[str]) -> Copies:
    found: Mapping[str, Any] = {name: places for name, places in copies.items() if name in sent}
    return found
