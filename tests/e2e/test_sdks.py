"""Unmodified client libraries through a whole mesh onto Kafka, read with Confluent's stock deserializer."""

import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import pytest

from clew.event.v1.event_pb2 import EventType
from clew.identity.v1.identifier_pb2 import ASSURANCE_ANONYMOUS, ASSURANCE_ASSERTED, ASSURANCE_VERIFIED
from tests.e2e.sdk.drivers import DRIVERS
from tests.e2e.sdk.scenario import CALLS_PER_VISITOR, anonymous_id, user_id
from tests.support.mesh import RunningMesh
from tests.support.topics import Received

_VISITORS = 4
# The one whose user id a token proves.
_PROVEN = 0
_SIX_CALLS = {number for number in EventType.values() if number}
# Libraries that send one batch after the other; the others have several requests under way.
_SEQUENTIAL = ("segment-python", "rudder-python")


@dataclass(frozen=True)
class Delivery:
    """What a library says it has delivered, and what is on the topic of it."""

    prefix: str
    sent: list[str]
    records: list[Received]

    def visits(self) -> dict[int, list[Received]]:
        """The records of each visitor, in the order of the topic."""
        found: dict[int, list[Received]] = defaultdict(list)
        for record in self.records:
            name = record.message.anonymous_id or record.message.user_id
            found[int(name.rpartition("-")[2])].append(record)
        return found


@pytest.fixture(scope="module")
def sending(mesh: RunningMesh) -> Iterator[dict[str, "Future[list[str]]"]]:
    """All libraries at once, as in a company that uses them all."""
    with ThreadPoolExecutor(len(DRIVERS)) as pool:
        started = {name: pool.submit(_send, mesh, name) for name in DRIVERS}
        wait(started.values())
        # Longer than it takes, so that a message that comes twice is seen.
        mesh.events.read(lambda: True, 30.0, 1.0)
        yield started


def _send(mesh: RunningMesh, name: str) -> list[str]:
    token = mesh.token(user_id(name, _PROVEN))
    return DRIVERS[name].run(
        mesh.endpoints.http,
        mesh.endpoints.write_key,
        _VISITORS,
        name,
        tokens={user_id(name, _PROVEN): token},
        timeout_seconds=90,
    )


@pytest.fixture(params=DRIVERS)
def delivery(request: pytest.FixtureRequest, mesh: RunningMesh, sending: dict[str, "Future[list[str]]"]) -> Delivery:
    """One library's visitors; skipped where the library cannot run."""
    sent = sending[request.param].result()
    mesh.events.wait(sent)
    own = [record for record in mesh.events.records if _is_from(request.param, record)]
    return Delivery(request.param, sent, own)


def _is_from(prefix: str, record: Received) -> bool:
    name = record.message.anonymous_id or record.message.user_id
    return bool(name.rpartition("-")[0] in {f"{prefix}-anonymous", f"{prefix}-user"})


def test_every_message_is_delivered_exactly_once(delivery: Delivery) -> None:
    """Every message id that a library says it delivered is on the events topic, once, and no other is."""
    assert len(delivery.sent) == _VISITORS * CALLS_PER_VISITOR
    assert sorted(record.message.message_id for record in delivery.records) == sorted(delivery.sent)


def test_a_visitor_is_one_profile_over_the_login(delivery: Delivery) -> None:
    """Anonymous calls, the login and the calls after it carry one profile per visitor, and it is the Kafka key."""
    profiles = {number: {record.message.profile_id for record in visit} for number, visit in delivery.visits().items()}
    assert [len(found) for found in profiles.values()] == [1] * _VISITORS, "a visitor has more than one profile"
    assert len({profile for found in profiles.values() for profile in found}) == _VISITORS
    assert all(record.key == record.message.profile_id for record in delivery.records)


def test_all_six_calls_arrive_with_what_they_said(delivery: Delivery) -> None:
    """Each visitor's six kinds of calls are on the topic, properties and traits as they were given."""
    for number, visit in delivery.visits().items():
        calls = {record.message.type: record.message for record in visit}
        assert calls.keys() == _SIX_CALLS
        track, group = calls[EventType.EVENT_TYPE_TRACK], calls[EventType.EVENT_TYPE_GROUP]
        identify, alias = calls[EventType.EVENT_TYPE_IDENTIFY], calls[EventType.EVENT_TYPE_ALIAS]
        assert track.event == "Product Viewed"
        assert json.loads(track.properties_json) == {"price": 19.9, "sku": f"sku-{number}"}
        assert (group.group_id, json.loads(group.traits_json)) == ("group-1", {"name": "Acme"})
        assert json.loads(identify.traits_json).items() >= {"favourite": "Zoë's café ☕", "visits": number}.items()
        assert alias.user_id == user_id(delivery.prefix, number)
        assert alias.previous_id == anonymous_id(delivery.prefix, number)


def test_assurance_says_how_the_visitor_is_known(delivery: Delivery) -> None:
    """Calls before the login are anonymous, those after it asserted, and verified where a token proves the user id."""
    for number, visit in delivery.visits().items():
        known = ASSURANCE_VERIFIED if number == _PROVEN else ASSURANCE_ASSERTED
        for record in visit:
            expected = known if record.message.user_id else ASSURANCE_ANONYMOUS
            assert record.message.assurance == expected, record.message


def test_records_carry_the_documented_headers(delivery: Delivery) -> None:
    """Each record says its schema, message id, consent epoch and trace, and is a CloudEvent."""
    (gateway,) = {record.headers["clew-gateway"] for record in delivery.records}
    assert gateway
    for record in delivery.records:
        message, headers = record.message, record.headers
        kind = EventType.Name(message.type).removeprefix("EVENT_TYPE_").lower()
        assert headers == {
            "clew-schema": "clew.event.v1.EnrichedEvent;1.1.0",
            "clew-message-id": message.message_id,
            "clew-consent-epoch": str(message.consent.epoch),
            "clew-profile-epoch": str(message.profile_epoch),
            "clew-gateway": gateway,
            "traceparent": headers["traceparent"],
            "content-type": "application/protobuf",
            "ce_specversion": "1.0",
            "ce_id": message.message_id,
            "ce_source": "/workspaces/main/sources/default",
            "ce_type": f"dev.clew.event.{kind}",
        }
        version, trace_id, span_id, flags = headers["traceparent"].split("-")
        assert (version, len(trace_id), len(span_id), len(flags)) == ("00", 32, 16, 2)


@pytest.mark.parametrize("delivery", _SEQUENTIAL, indirect=True)
def test_a_persons_events_keep_their_order(delivery: Delivery) -> None:
    """One person's records stand in one partition, in the order in which the person's library sent them."""
    place = {message_id: position for position, message_id in enumerate(delivery.sent)}
    for visit in delivery.visits().values():
        assert len({record.partition for record in visit}) == 1
        by_offset = sorted(visit, key=lambda record: record.offset)
        places = [place[record.message.message_id] for record in by_offset]
        assert places == sorted(places)


def test_every_record_names_its_library(delivery: Delivery) -> None:
    """Each record's context says which library sent it and in which version."""
    libraries = {
        (record.message.context.library.name, record.message.context.library.version) for record in delivery.records
    }
    ((name, version),) = libraries
    assert name
    assert version


@pytest.mark.parametrize("delivery", ["segment-browser", "segment-browser-batching"], indirect=True)
def test_a_browsers_events_say_what_it_is(delivery: Delivery) -> None:
    """The browser's user agent is read, the page is typed, and the campaign in its address is told."""
    for record in delivery.records:
        message = record.message
        assert "Chrom" in message.enrichment.client.browser, message.enrichment
        assert message.context.page.title == "A shop"
        if message.type == EventType.EVENT_TYPE_PAGE:
            assert message.enrichment.attribution.source == "newsletter"
