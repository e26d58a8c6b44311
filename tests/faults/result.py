"""What a run has found, in pieces that one report sums up."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.audit import Double
from tests.faults.schedule import kind

Recovery = tuple[str, float, float]
"""A kill's target; seconds until some gateway acknowledged again, and until every gateway did."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rounds on one mesh.

    Attributes:
        date: When it ended, `YYYY-MM-DD`, UTC.
        seconds: How long the rounds took, without start and audit.
        sent: Messages by client.
        given_up: Messages that a library gave up; nobody was promised anything about them.
        pending: Messages that a library still held when the run ended.
        answers: What our own client was answered, by status or error.
        lost, doubled: Message ids, with the process whose kill explains it.
        peak_mib: The most memory that each process of clew took between rounds.
        ledger: Where the gateway's ledger contradicts itself, the topics or what clients were told.
    """

    date: str
    seed: int
    gateways: int
    seconds: float
    recoveries: list[Recovery]
    sent: dict[str, int]
    accepted: int
    rejected: int
    filtered: int
    duplicates: int
    retried: int
    given_up: int
    pending: int
    answers: dict[str, int]
    lost: dict[str, str]
    doubled: dict[str, Double]
    leaked: list[str]
    strangers: list[str]
    failed_again: int
    peak_mib: dict[str, float]
    ledger: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        """Messages whose fate a client was told."""
        return self.accepted + self.rejected + self.filtered


@dataclass(slots=True)
class Results:
    """Everything that one report covers. `order` is the last order scenario's figures, with its date."""

    pieces: list[Piece] = field(default_factory=list)
    order: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path) -> "Results":
        """Those of a file; none when it does not exist."""
        if not file.exists():
            return cls()
        content = json.loads(file.read_text("utf-8"))
        pieces = [
            Piece(
                **{
                    **piece,
                    "recoveries": [tuple(recovery) for recovery in piece["recoveries"]],
                    "doubled": {name: Double(**double) for name, double in piece["doubled"].items()},
                }
            )
            for piece in content["pieces"]
        ]
        return cls(pieces, content["order"])

    def save(self, file: Path) -> None:
        """Write them, all or nothing."""
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(file.name + ".new")
        content = {"pieces": [asdict(piece) for piece in self.pieces], "order": self.order}
        fresh.write_text(json.dumps(content, indent=1), "utf-8")
        fresh.replace(file)

    def rounds(self, gateways: int | None = None) -> int:
        """How many kills, with so many gateways or in all."""
        return sum(len(piece.recoveries) for piece in self.pieces if gateways in {None, piece.gateways})

    def problems(self, *, allow_doubled: bool) -> list[str]:
        """Why the run has failed; empty when it has not."""
        found: list[str] = []
        for piece in self.pieces:
            wrong: dict[str, Collection[str]] = {
                "lost": piece.lost,
                "doubled": {} if allow_doubled else piece.doubled,
                "kept though refused": piece.leaked,
                "sent by nobody": piece.strangers,
            }
            found += [
                f"{piece.gateways} gateway(s), seed {piece.seed}: {len(ids)} messages {what}, such as {next(iter(ids))}"
                for what, ids in wrong.items()
                if ids
            ]
            found += [f"{piece.gateways} gateway(s), seed {piece.seed}: ledger: {what}" for what in piece.ledger]
        promised = ["inversions", "stuck", "missing"] + ([] if allow_doubled else ["doubled"])
        found += [
            f"order: {self.order[what]} {what} of {self.order['calls']} calls"
            for what in promised
            if self.order.get(what)
        ]
        return found


def by_process(pieces: Iterable[Piece]) -> dict[str, list[Recovery]]:
    """The recoveries of each kind of process; gateways are one kind."""
    found: dict[str, list[Recovery]] = defaultdict(list)
    for piece in pieces:
        for recovery in piece.recoveries:
            found[kind(recovery[0])].append(recovery)
    return dict(sorted(found.items()))


def causes(targets: Iterable[str]) -> Counter[str]:
    """How many messages each kind of process is to blame for."""
    return Counter(kind(target) for target in targets)


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that at least this share of the values does not exceed (nearest rank); of at least one."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[int(rank) - 1]
