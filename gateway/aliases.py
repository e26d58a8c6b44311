"""Who was whom: the alias of a merged profile is on Kafka before the first event under the new key.

A login may merge a visitor's profile into the user's, and from then on the events of one person stand under two keys.
An alias names the profiles that were merged, and for each a barrier: how far the records under its key reach. Whoever
keeps a person's order processes what lies below a barrier before the events that come after it (docs/TOPICS.md).

Any gateway publishes the aliases that it needs itself, whoever did the merge: what another one has published is not
looked at. So an alias may stand on its topic more than once, each time with barriers that hold.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry import trace

from clew.identity.v1.profile_changed_pb2 import Barrier, ProfileChanged
from gateway.encode import EVENTS_TOPIC, PROFILES_TOPIC, constant_headers, traceparent
from mesh.bus.framing import frame_prefix
from mesh.bus.partitioner import partition_of
from mesh.bus.port import Bus, DeliveryFailure, Offsets, Record
from mesh.bus.tail import EndReader
from mesh.errors import BusUnavailable

CAPACITY: Final = 100_000
"""How many merged profiles are remembered as published, about 20 MB; one that was forgotten is published again."""

Merges = Mapping[str, Sequence[str]]
"""By profile, all that were ever merged into it, oldest first: their number is the profile's epoch."""


class Aliases:
    """What this gateway has published of merges.

    Args:
        bus: Carries aliases and events.
        ends: Says where the events topic ends.
        schema_id: The registry's id of `ProfileChanged`.
        origin: Names this gateway on its records.
        capacity: How many profiles are remembered.
    """

    def __init__(
        self, bus: Bus, ends: EndReader, *, schema_id: int, origin: str = "", capacity: int = CAPACITY
    ) -> None:
        self._bus = bus
        self._ends = ends
        self._prefix = frame_prefix(schema_id)
        self._headers = constant_headers(ProfileChanged.DESCRIPTOR.full_name, origin)
        self._capacity = capacity
        self._published: OrderedDict[str, int] = OrderedDict()
        self._under_way: set[asyncio.Future[list[DeliveryFailure]]] = set()

    def news(self, merges: Merges) -> Merges:
        """Those of which the newest merge was not published yet by this gateway; one look-up a profile."""
        fresh: dict[str, Sequence[str]] = {}
        for profile_id, merged in merges.items():
            if self._published.get(profile_id, 0) < len(merged):
                fresh[profile_id] = merged
            else:
                self._published.move_to_end(profile_id)
        return fresh

    def follow(self, delivery: "asyncio.Future[list[DeliveryFailure]]") -> None:
        """Events were handed to Kafka: barriers that are read from now on must lie above them."""
        self._under_way.add(delivery)
        delivery.add_done_callback(self._under_way.discard)

    async def publish(self, workspace: str, merges: Merges) -> None:
        """Publish the aliases of these profiles; they are acknowledged when it returns.

        Raises:
            BusUnavailable: They may not be on their topic, so no event may be published that needs them.
        """
        # Events under the old keys that were handed to Kafka before may have no offset yet: no end would count them.
        if self._under_way:
            await asyncio.wait(self._under_way)
        ends = await self._ends.ends((EVENTS_TOPIC,))
        records = [self._record(workspace, profile_id, merged, ends.offsets) for profile_id, merged in merges.items()]
        # Cancelling a batch must not cancel the future that the bus is going to resolve.
        failures = await asyncio.shield(self._bus.produce(records))
        if failures:
            raise BusUnavailable(f"a merge of profiles could not be published: {failures[0].detail}")
        for profile_id, merged in merges.items():
            self._remember(profile_id, len(merged))

    def _remember(self, profile_id: str, epoch: int) -> None:
        # Another workspace's batch never has the same profile, and one workspace's come one after the other.
        self._published[profile_id] = epoch
        self._published.move_to_end(profile_id)
        if len(self._published) > self._capacity:
            self._published.popitem(last=False)

    def _record(self, workspace: str, profile_id: str, merged: Sequence[str], ends: Offsets) -> Record:
        fresh = merged[self._published.get(profile_id, 0) :]
        message = ProfileChanged(
            workspace=workspace,
            profile_id=profile_id,
            merged_profile_ids=merged,
            epoch=len(merged),
            # A topic that does not exist yet holds nothing to wait for.
            barriers=[_barrier(each, ends) for each in fresh] if ends else (),
        )
        headers = [
            *self._headers,
            ("traceparent", traceparent(trace.get_current_span().get_span_context())),
            ("clew-profile-epoch", b"%d" % message.epoch),
            ("ce_id", f"{profile_id}-{message.epoch}".encode()),
            ("ce_source", f"/workspaces/{workspace}".encode()),
            ("ce_type", b"dev.clew.profile.merged"),
        ]
        return Record(PROFILES_TOPIC, profile_id.encode(), self._prefix + message.SerializeToString(), headers)


def _barrier(profile_id: str, ends: Offsets) -> Barrier:
    partition = partition_of(profile_id.encode(), len(ends))
    return Barrier(profile_id=profile_id, partition=partition, offset=ends[EVENTS_TOPIC, partition])
