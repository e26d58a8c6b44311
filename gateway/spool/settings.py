"""What can be set about store-and-forward."""

from dataclasses import dataclass

from gateway.spool.spool import SpoolBounds
from mesh.settings import setting

_MIB = 1 << 20
_MOST_MIB = 1 << 20
_HOUR_SECONDS = 3_600
_LEAST_PATIENCE_SECONDS = 0.5
_MOST_PATIENCE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """Whether events are kept on disk while Kafka or a service is down, how many, and when that begins."""

    mib: int = setting(
        "CLEW_SPOOL_MIB",
        default=0,
        help="MiB that events may take in DATA_DIR/spool while Kafka or a service is down; they are answered with 200"
        " and published afterwards. 0: off, they are answered with 503",
    )
    hours: float = setting(
        "CLEW_SPOOL_HOURS",
        default=24.0,
        help="once the oldest event in the spool has waited so long no more are taken; none is ever dropped",
    )
    patience_seconds: float = setting(
        "CLEW_SPOOL_PATIENCE_SECONDS",
        default=2.0,
        help="a request that is not acknowledged within this time is put into the spool, 0.5 to 30 seconds",
    )

    @property
    def bounds(self) -> SpoolBounds | None:
        """How much the spool may hold; None: there is none."""
        return SpoolBounds(self.mib * _MIB, self.hours * _HOUR_SECONDS) if self.mib else None

    def __post_init__(self) -> None:
        """Refuse what could not be kept."""
        if not 0 <= self.mib <= _MOST_MIB:
            raise ValueError(f"CLEW_SPOOL_MIB: {self.mib} is not from 0 to {_MOST_MIB}")
        if self.hours <= 0:
            raise ValueError(f"CLEW_SPOOL_HOURS: {self.hours:g} is not above 0")
        if not _LEAST_PATIENCE_SECONDS <= self.patience_seconds <= _MOST_PATIENCE_SECONDS:
            raise ValueError(f"CLEW_SPOOL_PATIENCE_SECONDS: {self.patience_seconds:g} is not from 0.5 to 30")
