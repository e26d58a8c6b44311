"""Some rounds on one mesh: start it, load it, kill its processes one after the other, and audit what came out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from tests.faults.audit import Claims, Findings, audit
from tests.faults.ledger import Counts, imbalance
from tests.faults.libraries import Books, Library, note, start_all
from tests.faults.load import Client
from tests.faults.mesh import FaultMesh, running
from tests.faults.result import Piece
from tests.faults.rounds import Round, play
from tests.faults.schedule import Fault
from tests.faults.topic import read_copies
from tests.support.proxy import Proxy
from tests.support.topics import EVENTS, FAILED

Say = Callable[[str], None]
_WORKERS: Final = 10
_WARM_UP_SECONDS: Final = 1.0
# What is under way when the load stops is delivered within one answer's time and some retries.
_FINISH_SECONDS: Final = 60.0
_OWN_CLIENT: Final = "own client"


@dataclass(slots=True)
class Progress:
    """What is known of a run that goes on."""

    rounds: list[Round] = field(default_factory=list)
    peak_mib: dict[str, float] = field(default_factory=dict)

    def note_memory(self, pids: dict[str, int]) -> None:
        """Remember the most memory that each process has taken."""
        for name, pid in pids.items():
            status = Path(f"/proc/{pid}/status").read_text("utf-8")
            mib = int(status.partition("VmRSS:")[2].split()[0]) / 1024
            self.peak_mib[name] = max(self.peak_mib.get(name, 0.0), mib)


async def run(folder: Path, gateways: int, seed: int, faults: Sequence[Fault], say: Say) -> Piece:
    """Play the faults on a new mesh in an empty folder.

    Raises:
        NotRecovered, ProcessEnded: The mesh did not do what it must; its logs are in the folder.
        TimeoutError: What was under way at the end was not delivered, or a topic cannot be read to its end.
    """
    progress = Progress()
    async with running(folder, gateways) as mesh:
        client = Client(mesh.gateways, mesh.write_key, mesh.filtered_key)
        async with _libraries(mesh, client.claims) as libraries:
            async with _working(client):
                started = time.monotonic()
                for fault in faults:
                    _tell(say, await _play(fault, mesh, client, progress))
            seconds = time.monotonic() - started
            say("waiting for the libraries to deliver what they hold")
            books = await asyncio.gather(*(library.finish() for library in libraries))
        own = len(client.claims.sent)
        client.claims.sent.update(*(book.sent for book in books))
        mesh.check()
        say("reading the topics")
        counts = await mesh.ledger()
        findings, ledger = await asyncio.to_thread(_audit, mesh.kafka, client.claims, progress.rounds, counts)
    sent = {_OWN_CLIENT: own, **{book.library: len(book.sent) for book in books}}
    return _piece(
        gateways=gateways,
        seed=seed,
        seconds=seconds,
        progress=progress,
        client=client,
        books=books,
        findings=findings,
        ledger=ledger,
        sent=sent,
    )


@asynccontextmanager
async def _libraries(mesh: FaultMesh, claims: Claims) -> AsyncIterator[list[Library]]:
    """The client libraries at work, behind a balancer: a retry may reach another gateway than the first attempt."""
    async with Proxy(mesh.gateways, partial(note, claims=claims)).listening() as balancer:
        libraries = await start_all(balancer.url, mesh.write_key, mesh.folder)
        try:
            yield libraries
        finally:
            for library in libraries:
                library.kill()


@asynccontextmanager
async def _working(client: Client) -> AsyncIterator[None]:
    """Our own client at work; at the end all that it has begun is delivered."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        workers = [tasks.create_task(client.work(stop, number)) for number in range(_WORKERS)]
        await asyncio.sleep(_WARM_UP_SECONDS)
        yield
        stop.set()
        async with asyncio.timeout(_FINISH_SECONDS):
            await asyncio.gather(*workers)


async def _play(fault: Fault, mesh: FaultMesh, client: Client, progress: Progress) -> Round:
    done = await play(fault, mesh, client)
    progress.rounds.append(done)
    progress.note_memory(mesh.pids())
    return done


def _tell(say: Say, done: Round) -> None:
    both = "" if done.whole == done.served else f", by every gateway after {done.whole:.2f} s"
    say(f"round {done.number}: {done.target} killed; acknowledged again after {done.served:.2f} s{both}")


def _audit(kafka: str, claims: Claims, rounds: Sequence[Round], counts: Counts) -> tuple[Findings, list[str]]:
    kills = [done.kill for done in rounds]
    events, failed = read_copies(kafka, EVENTS), read_copies(kafka, FAILED)
    ledger = imbalance(
        counts,
        events=sum(map(len, events.values())),
        failed=sum(map(len, failed.values())),
        filtered=claims.filtered,
    )
    return audit(claims, events, failed, kills), ledger


def _piece(
    *,
    gateways: int,
    seed: int,
    seconds: float,
    progress: Progress,
    client: Client,
    books: Sequence[Books],
    findings: Findings,
    ledger: list[str],
    sent: dict[str, int],
) -> Piece:
    claims = client.claims
    given_up = {message_id for book in books for message_id in book.failed}
    return Piece(
        date=datetime.now(UTC).date().isoformat(),
        seed=seed,
        gateways=gateways,
        seconds=seconds,
        recoveries=[(done.target, done.served, done.whole) for done in progress.rounds],
        sent=sent,
        accepted=len(claims.accepted),
        rejected=len(claims.rejected),
        filtered=len(claims.filtered),
        duplicates=claims.duplicates,
        retried=client.retried,
        given_up=len(given_up),
        pending=len(claims.unanswered - given_up),
        answers=dict(client.answers),
        ledger=ledger,
        peak_mib=progress.peak_mib,
        lost=findings.lost,
        doubled=findings.doubled,
        leaked=findings.leaked,
        strangers=findings.strangers,
        failed_again=findings.failed_again,
    )
