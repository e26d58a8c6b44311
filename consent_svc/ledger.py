"""Entries of the consent ledger: what a person chose, where, when, and in which order it was recorded."""

from dataclasses import dataclass

from consent_svc.errors import DecideTimeRefused

# How far a caller's clock may run ahead of ours before "in the future" is meant literally.
_CLOCK_TOLERANCE_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Statement:
    """What a caller asks to record; it has no place in the ledger yet. Times are Unix ns, purposes are masks."""

    workspace: str
    subject: str
    granted: int
    denied: int
    origin: str
    policy_version: str
    decide_ns: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its epoch ascends by one over a workspace from 1, and `record_ns` never runs backwards with it."""

    epoch: int
    subject: str
    granted: int
    denied: int
    origin: str
    policy_version: str
    decide_ns: int
    record_ns: int

    clock_behind: bool = False

    @property
    def effective_ns(self) -> int:
        """When the choice counts from: as decided, yet never after it was recorded.

        A caller's clock may run ahead; without the bound, a grant dated a minute ahead would outlast the withdrawal
        that follows it within that minute.
        """
        return min(self.decide_ns, self.record_ns)

    @property
    def refused_ns(self) -> int:
        """When a refusal counts from: as any choice, but from its record when our clock stood behind the ledger.

        The entries before it are then dated later than any caller's right time, so that by this time none of the
        grants that it withdraws would ever end.
        """
        return self.record_ns if self.clock_behind else self.effective_ns


def enter(statement: Statement, last_epoch: int, last_record_ns: int, now_ns: int) -> Entry:
    """Give a statement its place after the last entry of the workspace; an absent time of decision is now."""
    # A clock that was set back must date neither a withdrawal before the grant that it withdraws, nor the other way.
    clock_behind = now_ns < last_record_ns
    record_ns = last_record_ns + 1 if clock_behind else now_ns
    return Entry(
        epoch=last_epoch + 1,
        subject=statement.subject,
        granted=statement.granted,
        denied=statement.denied,
        origin=statement.origin,
        policy_version=statement.policy_version,
        decide_ns=record_ns if statement.decide_ns is None else statement.decide_ns,
        record_ns=record_ns,
        clock_behind=clock_behind,
    )


def check_decide_time(decide_ns: int | None, now_ns: int) -> None:
    """Refuse a time of decision that cannot be true: before 1970, or more than 60 seconds ahead of our clock.

    Raises:
        DecideTimeRefused: it is.
    """
    if decide_ns is None or 0 <= decide_ns <= now_ns + _CLOCK_TOLERANCE_NS:
        return
    detail = "is in the future" if decide_ns > 0 else "is before 1970"
    raise DecideTimeRefused(detail, field="decide_time", rule="decide_time")
