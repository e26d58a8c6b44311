"""Store and forward as one thing: the spool, what fills it and what drains it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from gateway.carrier import Carrier
from gateway.spool.deferral import Deferral
from gateway.spool.drain import Drain
from gateway.spool.settings import SpoolSettings
from gateway.spool.spool import Spool
from gateway.stats import Stats
from gateway.tap import Tap
from mesh.bus.port import Bus
from mesh.settings import SettingsError

DIRECTORY: Final = "spool"


async def open_spool(settings: SpoolSettings, data_dir: Path | None) -> Spool | None:
    """Open the spool that the settings ask for; None: they ask for none.

    Raises:
        SettingsError: There is no data directory to keep it in.
        StorageUnavailable: It cannot be used.
    """
    if settings.bounds is None:
        return None
    if data_dir is None:
        raise SettingsError(["CLEW_SPOOL_MIB: a spool needs a directory to be kept in: set CLEW_DATA_DIR"])
    return await Spool.open(data_dir / DIRECTORY, settings.bounds)


class Forward:
    """What carries requests in place of the pipeline where a spool is asked for.

    Args:
        spool: Keeps them.
        pipeline: Carries them while it can.
        bus: Asked whether Kafka answers.
        settled: Whether it is known what became of everything that this gateway has claimed.
        patience_seconds: How long the pipeline may take over a request.
        request_seconds: How long it may take over one that is released.
        stats: Counts verdicts.
        tap: Shows them.
    """

    def __init__(
        self,
        spool: Spool,
        pipeline: Carrier,
        bus: Bus,
        settled: Callable[[], bool],
        *,
        patience_seconds: float,
        request_seconds: float,
        stats: Stats,
        tap: Tap,
    ) -> None:
        self.spool = spool
        self.carrier = Deferral(pipeline, spool, patience_seconds=patience_seconds, on_lost=stats.set_aside)
        self._drain = Drain(
            spool, self.carrier, pipeline, bus, settled, request_seconds=request_seconds, stats=stats, tap=tap
        )

    def start(self) -> None:
        """Release what an earlier run has left, and what comes to wait."""
        self._drain.start()

    async def stop(self) -> None:
        """Release nothing more; call it before the pipeline drains."""
        await self._drain.close()

    async def close(self) -> None:
        """Let go of the files; call it when no request can come any more."""
        await self.spool.close()

    def status(self) -> dict[str, object]:
        """How it stands, for probes."""
        spool = self.spool
        return {
            "state": self.carrier.state.name.lower(),
            "events": spool.events,
            "bytes": spool.size,
            "oldest_seconds": round(spool.age_seconds, 3),
            "full": spool.full,
        }


def add_gauges(meter: Meter, spool: Spool) -> None:
    """Observe the spool: `clew.spool.events`, `clew.spool.bytes` and `clew.spool.age`."""

    def events(_: CallbackOptions) -> Iterator[Observation]:
        for (workspace, source), count in spool.by_source().items():
            yield Observation(count, {"workspace": workspace, "source": source})

    def gauge(name: str, unit: str, description: str, value: Callable[[], float]) -> None:
        def observe(_: CallbackOptions) -> list[Observation]:
            return [Observation(value())]

        meter.create_observable_gauge(name, [observe], unit=unit, description=description)

    meter.create_observable_gauge(
        "clew.spool.events", [events], unit="{event}", description="Events that wait in the spool, by source"
    )
    gauge("clew.spool.bytes", "By", "Bytes that the spool takes on disk", lambda: spool.size)
    gauge("clew.spool.age", "s", "How long the oldest event in the spool has waited", lambda: spool.age_seconds)
