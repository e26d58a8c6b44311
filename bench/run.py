"""`make bench`: clew, a typical service, Envoy before a service, and the machine's limits, in one interleaved run.

Systems take turns on every workload, several rounds long; the report shows medians over the rounds and medians of the
ratios within each round, since the speed of a shared machine changes from minute to minute. A fixed calibration loop
runs before and after each measurement; the report says how often it moved by more than a quarter.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.brokers import EMBEDDED, KAFKA, Broker, Brokers, running_brokers
from bench.flame import NoSampler
from bench.measure import Measurement, Subject, Timing, measure
from bench.report import capacity, report
from bench.stages import sample_gateway, stages_report, write_flame
from bench.startup import measure_startup, startup_report
from bench.systems import SYSTEMS
from bench.workloads import WORKLOADS, Workload

_BROKERS = {"both": [KAFKA, EMBEDDED], KAFKA: [KAFKA], EMBEDDED: [EMBEDDED]}
# What a measurement takes beyond its seconds: the generator's start, its last answers.
_EXTRA_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Step:
    """A measurement to make: share 0 is a closed loop."""

    subject: Subject
    workload: Workload
    share: float = 0.0


def plan(subjects: list[Subject], workloads: list[Workload], shares: list[float]) -> list[Step]:
    """One round: each workload's closed loops in turn, then its open ones."""
    steps: list[Step] = []
    for workload in workloads:
        steps += [Step(subject, workload) for subject in subjects]
        for share in shares if workload.latency else ():
            steps += [Step(subject, workload, share) for subject in subjects if SYSTEMS[subject.system.name].latency]
    return steps


def run(steps: list[Step], options: argparse.Namespace) -> list[list[Measurement]]:
    """All rounds. The order of systems turns round by round: no one is always first."""
    timing = Timing(options.seconds, options.warmup)
    rounds: list[list[Measurement]] = []
    total, done = len(steps) * options.rounds, 0
    for number in range(options.rounds):
        rounds.append([])
        for step in turned(steps, number):
            left = (total - done) * (timing.seconds + timing.warmup + _EXTRA_SECONDS) / 60
            _say(f"[{done + 1}/{total}, {left:.0f} min left] {_label(step)}")
            rounds[-1] += _measured(step, timing, rounds)
            done += 1
    return rounds


def _measured(step: Step, timing: Timing, rounds: list[list[Measurement]]) -> list[Measurement]:
    """The measurement; none where it failed, which is told: the others are worth having all the same."""
    subject, workload = step.subject, step.workload
    rate = step.share * capacity(rounds, subject.system.name, subject.broker, workload)
    if step.share and not rate:
        _say("    left out: its closed loops carried nothing")
        return []
    try:
        found = measure(subject, workload, timing, share=step.share, rate=rate)
    except (OSError, RuntimeError) as error:
        _say(f"    failed: {error}")
        return []
    _say(f"    {found.events_per_second:,.0f} events/s, {found.total_cpu_us:,.0f} us/event")
    return [found]


def turned(steps: list[Step], number: int) -> Iterator[Step]:
    """The steps with each workload's and share's systems begun at another one."""
    groups: dict[tuple[str, float], list[Step]] = {}
    for step in steps:
        groups.setdefault((step.workload.key, step.share), []).append(step)
    for group in groups.values():
        first = number % len(group)
        yield from group[first:] + group[:first]


@contextmanager
def running_subjects(names: list[str], brokers: Brokers) -> Iterator[list[Subject]]:
    """Start every system on every kind of broker; what has nothing to do with brokers once."""
    with ExitStack() as stack:
        subjects: list[Subject] = []
        for name in names:
            kind = SYSTEMS[name]
            for broker_kind in brokers.kinds if kind.brokers else brokers.kinds[:1]:
                _say(f"starting {name} on {broker_kind}")
                own = kind.embeds and broker_kind == EMBEDDED
                broker = Broker(EMBEDDED, "") if own or not kind.brokers else brokers.of(broker_kind)
                system = stack.enter_context(kind.start(name, broker.bootstrap))
                subjects.append(Subject(system, broker_kind, system.broker or broker.pid))
        yield subjects


def look_inside(
    subjects: list[Subject], workloads: list[Workload], rounds: list[list[Measurement]], options: argparse.Namespace
) -> str:
    """The table of the gateway's stages under the first workload; the flame graph goes to its file."""
    subject = next((each for each in subjects if each.system.name == "clew"), None)
    if subject is None:
        return "\n\nNo flame graph: clew was not among the systems."
    _say(f"looking into the gateway: {workloads[0].name}")
    try:
        stacks = sample_gateway(subject, workloads[0], options.seconds * 2)
    except NoSampler as error:
        return f"\n\nNo flame graph: {error}."
    write_flame(options.flame, stacks, workloads[0])
    measured = [each for found in rounds for each in found if each.system == "clew" and each.broker == subject.broker]
    return f"\n\n{stages_report(stacks, workloads[0], measured)}"


def available(names: list[str]) -> list[str]:
    """Those of the systems that can be measured here; why the others cannot is told."""
    for name in names:
        if SYSTEMS[name].missing:
            _say(f"without {name}: {SYSTEMS[name].missing}")
    return [name for name in names if not SYSTEMS[name].missing]


def _label(step: Step) -> str:
    loop = f"open loop at {step.share:.0%}" if step.share else "closed loop"
    return f"{step.workload.name}: {step.subject.system.name} on {step.subject.broker}, {loop}"


def _say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    defaults = [name for name, kind in SYSTEMS.items() if kind.default]
    parser = argparse.ArgumentParser(
        prog="bench.run",
        description=__doc__.partition("\n")[0] if __doc__ else None,
        epilog="A quick look: python -m bench.run --only clew typical --broker embedded --rounds 1 --seconds 3",
    )
    parser.add_argument("--only", nargs="+", choices=list(SYSTEMS), default=defaults, help="which systems to measure")
    parser.add_argument(
        "--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS), help="which workloads to measure"
    )
    parser.add_argument("--broker", choices=list(_BROKERS), default="both", help="which broker the systems publish to")
    parser.add_argument(
        "--kafka", default="", metavar="HOST:PORT", help="a real Kafka that runs already; without it one is started"
    )
    parser.add_argument("--rounds", type=int, default=2, help="rounds of all measurements (2)")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds that each measurement lasts (4)")
    parser.add_argument("--warmup", type=float, default=1.5, help="seconds before each that do not count (1.5)")
    parser.add_argument(
        "--shares", nargs="*", type=float, default=[0.5, 0.9], help="parts of the capacity for open loops (0.5 0.9)"
    )
    parser.add_argument(
        "--flame", type=Path, metavar="FILE", help="look into clew's gateway as well and draw a flame graph (SVG)"
    )
    parser.add_argument("--no-startup", action="store_true", help="leave out start-up times and idle memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement to this file as well")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the report to this file as well")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0 or options.warmup < 0 or min(options.shares, default=1) <= 0:
        parser.error("--rounds must be 1 or more, --seconds and --shares above 0, --warmup 0 or more")
    for file in (options.flame, options.json, options.markdown):
        if file is not None and not file.absolute().parent.is_dir():
            parser.error(f"{file}: there is no folder {file.absolute().parent}")
    return options


def measure_all(options: argparse.Namespace) -> tuple[list[list[Measurement]], str]:
    """Everything that was asked for: the measurements, and the report."""
    with (
        running_brokers(_BROKERS[options.broker], options.kafka) as brokers,
        running_subjects(available(options.only), brokers) as subjects,
    ):
        workloads = [WORKLOADS[key] for key in options.workloads]
        rounds = run(plan(subjects, workloads, options.shares), options)
        text = report(rounds)
        if options.flame:
            text += look_inside(subjects, workloads, rounds, options)
    if not options.no_startup:
        _say("start-up times")
        text += f"\n\n{startup_report(measure_startup())}"
    return rounds, text


def main() -> None:
    """Measure and print the report. Exit status 1 when a system or a broker does not start, 130 after a Ctrl-C."""
    options = arguments()
    began = time.monotonic()
    try:
        rounds, text = measure_all(options)
    except KeyboardInterrupt:
        _say("stopped; nothing is reported")
        sys.exit(130)
    except RuntimeError as error:
        _say(str(error))
        sys.exit(1)
    if options.json:
        rows = [asdict(each) for measured in rounds for each in measured]
        options.json.write_text(json.dumps(rows, indent=1), "utf-8")
    if options.markdown:
        options.markdown.write_text(text + "\n", "utf-8")
    print(text)
    _say(f"{(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
