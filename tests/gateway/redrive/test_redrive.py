"""Failed events sent again, through a whole gateway: real services behind it, the rpc over HTTP."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from clew.admin.v1.failed_event_service_pb2 import Redrive
from clew.audit.v1 import audit_entry_pb2 as audit
from clew.collector.v1.collector_service_pb2 import CollectEventsRequest
from clew.event.v1.enriched_event_pb2 import EVENT_TIME_SOURCE_ORIGINAL, EnrichedEvent
from clew.event.v1.event_pb2 import WARNING_MESSAGE_ID_MINTED, WARNING_REDRIVEN, Event, EventType
from clew.event.v1.failed_event_pb2 import FailedEvent
from clew.identity.v1.identifier_pb2 import Assurance
from gateway.redrive.audit import AUDIT_TOPIC, AuditLog
from gateway.redrive.redriver import Order, Redriver
from mesh.bus.framing import split
from mesh.bus.port import Record
from mesh.bus.tail import MemoryTail
from mesh.clock import SystemClock
from mesh.errors import BusUnavailable
from mesh.ids import new_id
from tests.support.gateway import WRITE_KEY, RunningGateway, running_gateway
from tools.compile_topics import declared_topics

EVENTS, FAILED = "clew.events.v1", "clew.events.failed.v1"
SCOPE = "clew.failed.write"
LONG_AGO = "2020-02-03T04:05:06.789Z"
HOUR_NS = 3_600_000_000_000

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Operator:
    """Somebody who may redrive, at a gateway."""

    def __init__(self, gateway: RunningGateway, client: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.client = client
        self.audited = len(gateway.bus.read(AUDIT_TOPIC))
        self.refused = len(gateway.bus.read(FAILED))
        """The offset of the first event that fails from now on."""

    async def send(self, *events: Any) -> list[dict[str, Any]]:
        """A batch of a client library's; the verdicts."""
        texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
        body = f'{{"batch":[{",".join(texts)}]}}'
        answer = await self.client.post("/v1/batch", content=body.encode(), headers={"X-Write-Key": WRITE_KEY})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["events"])

    async def fail(self, event: Any) -> int:
        """Send an event that is refused; its offset on the failed topic."""
        (verdict,) = await self.send(event)
        assert verdict["verdict"] == "rejected", verdict
        return len(self.failed()) - 1

    async def call(self, *events: dict[str, Any], scope: str = SCOPE, **fields: Any) -> httpx.Response:
        """The rpc's answer, whatever it is."""
        body = {"events": [{"partition": 0, **event} for event in events], **fields}
        path = f"/v1/workspaces/{fields.pop('workspace', 'main')}/failedEvents:redrive"
        body.pop("workspace", None)
        return await self.client.post(path, json=body, headers=self.gateway.bearer(scope))

    async def redrive(self, *events: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
        """The results."""
        answer = await self.call(*events, **fields)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["results"])

    def records(self, topic: str) -> list[Record]:
        """All records of a topic."""
        return self.gateway.bus.read(topic)

    def failed(self) -> list[FailedEvent]:
        """What is on the failed topic."""
        return [FailedEvent.FromString(split(record.value).payload) for record in self.records(FAILED)]

    def events(self, message_id: str) -> list[EnrichedEvent]:
        """What is on the events topic of one message."""
        found = [EnrichedEvent.FromString(split(record.value).payload) for record in self.records(EVENTS)]
        return [event for event in found if event.message_id == message_id]

    def audit(self) -> list[audit.AuditEntry]:
        """What was audited since this operator came."""
        records = self.records(AUDIT_TOPIC)[self.audited :]
        return [audit.AuditEntry.FromString(split(record.value).payload) for record in records]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[RunningGateway]:
    """A gateway that all tests share; each has events of its own."""
    async with running_gateway() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def operator(gateway: RunningGateway) -> AsyncIterator[Operator]:
    """An operator."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
        yield Operator(gateway, client)
    gateway.bus.start()
    gateway.bus.fail_when(lambda _: None)


def nameless(**members: Any) -> dict[str, Any]:
    """A track call that names neither a visitor nor a user."""
    return {"type": "track", "event": "Bought", "messageId": new_id(), **members}


def mended(event: dict[str, Any], **members: Any) -> dict[str, str]:
    """The replacement: the event with an id."""
    return {"eventJson": json.dumps({**event, "userId": "u-1", **members})}


async def test_an_event_with_half_a_character_for_a_key_can_be_mended(operator: Operator) -> None:
    """It failed for that; the others of the call are not kept from being sent, nor this one."""
    event = {"type": "track", "event": "Bought", "messageId": new_id(), "userId": "u-1"}
    broken = json.dumps({**event, "properties": {"\ud800": 1}})
    found = await operator.redrive({"offset": await operator.fail(broken), "eventJson": json.dumps(event)})
    assert [(one["status"], one["verdict"]) for one in found] == [("REDRIVE_STATUS_SENT", "VERDICT_ACCEPTED")]
    assert found[0]["changedPaths"] == ["/properties"]
    emptied = json.dumps({**event, "messageId": new_id(), "properties": {}})
    found = await operator.redrive({"offset": await operator.fail(broken), "eventJson": emptied})
    assert found[0]["changedPaths"] == ["/messageId", r"/properties/\ud800"]


async def test_a_mended_event_goes_the_way_of_every_event(operator: Operator) -> None:
    """Its message id and the client's times stay, when it happened is reckoned from its first receipt, it is marked."""
    event = nameless(timestamp="2026-01-02T03:04:05.678Z", properties={"big": 2**53 + 1})
    offset = await operator.fail(event)
    before = operator.failed()
    (result,) = await operator.redrive({"offset": offset, **mended(event)})
    assert (result["status"], result["verdict"]) == ("REDRIVE_STATUS_SENT", "VERDICT_ACCEPTED")
    (published,) = operator.events(event["messageId"])
    assert published.user_id == "u-1"
    assert published.assurance == Assurance.ASSURANCE_ASSERTED
    assert str(2**53 + 1) in published.properties_json
    assert published.original_time.ToJsonString() == "2026-01-02T03:04:05.678Z"
    assert published.event_time == published.original_time
    assert published.event_time_source == EVENT_TIME_SOURCE_ORIGINAL
    assert list(published.warnings) == [WARNING_REDRIVEN]
    assert operator.failed() == before


async def test_when_it_happened_is_weighed_against_the_first_receipt(operator: Operator) -> None:
    """An event without a time of its own happened when it was received first, and not when it was redriven."""
    event = nameless()
    offset = await operator.fail(event)
    received = operator.failed()[offset].received_time
    await operator.redrive({"offset": offset, **mended(event)})
    (published,) = operator.events(event["messageId"])
    assert published.event_time == received
    assert published.received_time.ToNanoseconds() > received.ToNanoseconds()


async def test_one_that_still_fails_is_not_sent(operator: Operator) -> None:
    """Why is in the result; it does not lie on the failed topic twice, and there is nothing to audit."""
    offset = await operator.fail(nameless())
    (result,) = await operator.redrive({"offset": offset})
    assert (result["status"], result["failureReason"]) == (
        "REDRIVE_STATUS_INVALID",
        "FAILURE_REASON_MISSING_IDENTIFIER",
    )
    assert result["detail"]
    assert len(operator.failed()) == offset + 1
    assert operator.audit() == []


async def test_its_neighbours_are_sent(operator: Operator) -> None:
    """What cannot be sent keeps nothing else from being sent; results stand in the order of the request."""
    good, bad = nameless(), nameless()
    first, second = await operator.fail(bad), await operator.fail(good)
    results = await operator.redrive({"offset": first}, {"offset": 99_999}, {"offset": second, **mended(good)})
    statuses = [result["status"].removeprefix("REDRIVE_STATUS_") for result in results]
    assert statuses == ["INVALID", "NOT_FOUND", "SENT"]


async def test_a_look_sends_nothing(operator: Operator) -> None:
    """With validateOnly no record is written, on no topic."""
    event = nameless()
    offset = await operator.fail(event)
    (result,) = await operator.redrive({"offset": offset, **mended(event)}, validateOnly=True)
    assert result["status"] == "REDRIVE_STATUS_READY"
    assert result["changedPaths"] == ["/userId"]
    assert operator.events(event["messageId"]) == []
    assert operator.audit() == []


async def test_no_event_is_redriven_twice(operator: Operator) -> None:
    """The audit topic remembers: this gateway, and one that is started anew, leave it alone and say who it was."""
    event = nameless()
    offset = await operator.fail(event)
    await operator.redrive({"offset": offset, **mended(event)})
    (again,) = await operator.redrive({"offset": offset, **mended(event)})
    assert again["status"] == "REDRIVE_STATUS_REDRIVEN_BEFORE"
    assert again["previous"]["actor"] == "tester"
    assert again["previous"]["auditEntryId"] == operator.audit()[-1].id
    (item,), entry = await restarted(operator).redrive(Order("other", "main", [redrive_of(offset, event)]))
    assert (item.previous and item.previous.actor, entry) == ("tester", "")
    assert len(operator.events(event["messageId"])) == 1


def restarted(operator: Operator) -> Redriver:
    """What a gateway that starts now knows of redrives; nothing may be sent through it."""
    bus, tail = operator.gateway.bus, MemoryTail(operator.gateway.bus)

    def nobody(*_: object) -> Any:
        raise AssertionError("nothing is to be sent")

    source = operator.gateway.gateway.collector._admission._sources.find(WRITE_KEY)
    log = AuditLog(bus, tail, SystemClock(), schema_id=1)
    return Redriver(tail, log, lambda _workspace, _name: source, nobody, SystemClock())


def redrive_of(offset: int, event: dict[str, Any]) -> Redrive:
    """The same as a message."""
    return Redrive(partition=0, offset=offset, event_json=mended(event)["eventJson"])


async def test_one_that_is_sent_twice_on_purpose_is_a_duplicate(operator: Operator) -> None:
    """A failed event was not published, so the first redrive is new; the second is not."""
    event = nameless()
    offset = await operator.fail(event)
    for verdict in ("VERDICT_ACCEPTED", "VERDICT_DUPLICATE"):
        (result,) = await operator.redrive({"offset": offset, **mended(event)}, again=True)
        assert result["verdict"] == verdict
    assert len(operator.events(event["messageId"])) == 1


async def test_one_without_a_message_id_gets_the_same_each_time(operator: Operator) -> None:
    """So that a second redrive is known as one; the record says that the id was minted."""
    event = nameless()
    del event["messageId"]
    offset = await operator.fail(event)
    results = [(await operator.redrive({"offset": offset, **mended(event)}, again=True))[0] for _ in range(2)]
    assert [result["verdict"] for result in results] == ["VERDICT_ACCEPTED", "VERDICT_DUPLICATE"]
    assert results[0]["messageId"] == results[1]["messageId"]
    (published,) = operator.events(results[0]["messageId"])
    assert list(published.warnings) == [WARNING_MESSAGE_ID_MINTED, WARNING_REDRIVEN]


async def test_a_token_that_was_removed_proves_nothing(operator: Operator) -> None:
    """Its asterisks are no token: the user id is asserted, and the event waits for no check of it."""
    event = nameless(context={"identityToken": "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1LTEifQ.c2ln"})
    offset = await operator.fail(event)
    (result,) = await operator.redrive({"offset": offset, **mended(event)})
    assert result["verdict"] == "VERDICT_ACCEPTED"
    (published,) = operator.events(event["messageId"])
    assert published.assurance == Assurance.ASSURANCE_ASSERTED
    assert list(published.warnings) == [WARNING_REDRIVEN]
    assert "identity" not in published.context.extra_json


async def test_a_replacement_without_a_message_id_keeps_the_old_one(operator: Operator) -> None:
    """Whoever writes the event anew does not make another one of it by leaving the id out."""
    event = nameless()
    offset = await operator.fail(event)
    without = {"eventJson": json.dumps({"type": "track", "event": "Anew", "userId": "u-1"})}
    (result,) = await operator.redrive({"offset": offset, **without})
    assert result["messageId"] == event["messageId"]
    (published,) = operator.events(event["messageId"])
    assert list(published.warnings) == [WARNING_REDRIVEN]


async def test_a_client_that_sends_it_again_itself_sends_a_duplicate(operator: Operator) -> None:
    """And the other way round: whoever mends it first is the one."""
    first, second = nameless(), nameless()
    offsets = [await operator.fail(first), await operator.fail(second)]
    await operator.redrive({"offset": offsets[0], **mended(first)})
    (late,) = await operator.send({**first, "userId": "u-1"})
    await operator.send({**second, "userId": "u-1"})
    (result,) = await operator.redrive({"offset": offsets[1], **mended(second)})
    assert (late["verdict"], result["verdict"]) == ("duplicate", "VERDICT_DUPLICATE")


@pytest.mark.parametrize(("events", "keys", "told"), [(3, 0, 1), (3, 60, 50), (130, 60, 20)])
async def test_an_entry_of_the_audit_fits_into_a_record(operator: Operator, events: int, keys: int, told: int) -> None:
    """However much was changed: Kafka's clients send no record of more than a megabyte, and nothing goes unaudited."""
    properties = {f"{at:02}" + "x" * 180: 1 for at in range(keys)}
    event = nameless(properties=properties)
    first = await operator.fail(event)
    await operator.send(*[event] * (events - 1))
    replacement = mended(event, properties={})
    await operator.redrive(*({"offset": first + at, **replacement} for at in range(events)))
    for entry in operator.audit():
        redriven = entry.events_redriven.events
        assert len(redriven) == events
        assert {one.changed_path_count for one in redriven} == {keys + 1}
        assert all(len(one.changed_paths) >= told for one in redriven)
    assert len(operator.audit()) == 2
    assert all(len(record.value or b"") < 900_000 for record in operator.records(AUDIT_TOPIC))


async def test_the_audit_says_who_why_which_and_what_but_no_value(operator: Operator) -> None:
    """One entry before anything is sent and one with the outcome; paths of what was changed, no personal data."""
    event = nameless(properties={"card": "4111-secret", "total": 1})
    offset = await operator.fail(event)
    replacement = mended(event, properties={"card": "5222-secret", "total": 1})
    await operator.redrive({"offset": offset, **replacement}, note="OPS-7")
    begun, ended = operator.audit()
    assert {record.key for record in operator.records(AUDIT_TOPIC)} == {b"tester"}
    assert (begun.actor, begun.workspace, begun.note) == ("tester", "main", "OPS-7")
    assert begun.events_redriven.phase == audit.REDRIVE_PHASE_BEGUN
    assert ended.events_redriven.begun_entry_id == begun.id
    (one,) = ended.events_redriven.events
    assert (one.partition, one.offset, one.message_id, one.source) == (0, offset, event["messageId"], "default")
    assert list(one.changed_paths) == ["/properties/card", "/userId"]
    assert one.outcome == audit.REDRIVE_OUTCOME_ACCEPTED
    raw = b"".join(record.value for record in operator.records(AUDIT_TOPIC))
    assert not any(value in raw for value in (b"secret", b"u-1", b"Bought"))


async def test_an_entry_has_the_headers_that_are_described(operator: Operator) -> None:
    """Those that docs/TOPICS.md names for its topic; it is of a workspace, and of no source."""
    event = nameless()
    await operator.redrive({"offset": await operator.fail(event), **mended(event)})
    (declared,) = (topic.headers for topic in declared_topics().topics if topic.name == AUDIT_TOPIC)
    record = operator.records(AUDIT_TOPIC)[-1]
    headers = dict(record.headers)
    assert set(headers) == set(declared)
    assert headers["ce_id"].decode() == operator.audit()[-1].id
    assert headers["ce_source"] == b"/workspaces/main"
    assert headers["clew-schema"].startswith(b"clew.audit.v1.AuditEntry;")


async def test_nothing_is_sent_without_an_audit(operator: Operator) -> None:
    """Where the audit topic cannot be written, the event stays where it is: 503, and no event."""
    event = nameless()
    offset = await operator.fail(event)
    operator.gateway.bus.fail_when(lambda record: "no" if record.topic == AUDIT_TOPIC else None)
    answer = await operator.call({"offset": offset, **mended(event)})
    assert (answer.status_code, answer.json()["code"]) == (503, "BUS_UNAVAILABLE")
    assert operator.events(event["messageId"]) == []


async def test_what_was_sent_while_its_verdict_could_not_be_audited_is_sent_once(operator: Operator) -> None:
    """A crash after sending, as far as the topics show it: the next redrive finds a duplicate, and audits that."""
    event = nameless()
    offset = await operator.fail(event)
    entries = 0

    def second(record: Record) -> str | None:
        nonlocal entries
        entries += record.topic == AUDIT_TOPIC
        return "no" if entries > 1 else None

    operator.gateway.bus.fail_when(second)
    answer = await operator.call({"offset": offset, **mended(event)})
    assert answer.status_code == 503
    operator.gateway.bus.fail_when(lambda _: None)
    (result,) = await operator.redrive({"offset": offset, **mended(event)})
    assert result["verdict"] == "VERDICT_DUPLICATE"
    assert len(operator.events(event["messageId"])) == 1


async def test_a_service_that_is_down_leaves_events_to_be_redriven(operator: Operator) -> None:
    """An outage is no verdict: nothing lies on the failed topic a second time, and the next redrive sends them."""
    events = [nameless() for _ in range(3)]
    offsets = [await operator.fail(event) for event in events]
    orders = [{"offset": offset, **mended(event)} for offset, event in zip(offsets, events, strict=True)]
    operator.gateway.bus.fail_when(lambda record: "away" if record.topic == EVENTS else None)
    results = await operator.redrive(*orders)
    assert {result["status"] for result in results} == {"REDRIVE_STATUS_UNANSWERED"}
    assert all("BUS_UNAVAILABLE" in result["detail"] for result in results)
    assert len(operator.failed()) == offsets[-1] + 1
    assert {one.outcome for one in operator.audit()[-1].events_redriven.events} == {audit.REDRIVE_OUTCOME_UNANSWERED}
    operator.gateway.bus.fail_when(lambda _: None)
    results = await operator.redrive(*orders)
    assert [result["verdict"] for result in results] == ["VERDICT_ACCEPTED"] * 3


async def test_a_persons_events_keep_their_order(operator: Operator) -> None:
    """Events of one visitor are published in the order of the request, more of them than travel at once."""
    events = [nameless(properties={"n": number}) for number in range(130)]
    await operator.send(*events)
    before = len(operator.records(EVENTS))
    await operator.redrive(*({"offset": operator.refused + at, **mended(event)} for at, event in enumerate(events)))
    published = [EnrichedEvent.FromString(split(record.value).payload) for record in operator.records(EVENTS)[before:]]
    assert [event.message_id for event in published] == [event["messageId"] for event in events]


async def test_a_message_is_redriven_as_a_message(operator: Operator) -> None:
    """What came by CollectEvents lies there serialized, and is replaced by a message."""
    event = Event(message_id=new_id(), type=EventType.EVENT_TYPE_TRACK, event="Bought", properties_json='{"n": 1}')
    headers = {"X-Write-Key": WRITE_KEY, "Content-Type": "application/json"}
    body = {"events": [{"messageId": event.message_id, "type": 1, "event": "Bought", "propertiesJson": '{"n": 1}'}]}
    assert CollectEventsRequest(events=[event]).ByteSize()
    answer = await operator.client.post("/v1/events", json=body, headers=headers)
    assert answer.json()["verdicts"][0]["verdict"] == "VERDICT_REJECTED"
    (same,) = await operator.redrive({"offset": operator.refused}, validateOnly=True)
    assert same["failureReason"] == "FAILURE_REASON_MISSING_IDENTIFIER"
    replacement = {**body["events"][0], "anonymousId": "a-1", "identityToken": "eyJ.a.b"}
    (result,) = await operator.redrive({"offset": operator.refused, "event": replacement})
    assert (result["verdict"], result["changedPaths"]) == ("VERDICT_ACCEPTED", ["/anonymousId", "/identityToken"])
    (published,) = operator.events(event.message_id)
    assert (published.anonymous_id, published.properties_json) == ("a-1", '{"n": 1}')


async def test_whoever_may_not_redrives_nothing(operator: Operator) -> None:
    """A token without the scope, another workspace's name, and a write key open nothing."""
    event = nameless()
    offset = await operator.fail(event)
    order = {"offset": offset, **mended(event)}
    assert (await operator.call(order, scope="clew.sources.write")).status_code == 403
    (result,) = await operator.redrive(order, workspace="another")
    assert result["status"] == "REDRIVE_STATUS_NOT_FOUND"
    path = "/v1/workspaces/main/failedEvents:redrive"
    answer = await operator.client.post(path, json={"events": [order]}, headers={"X-Write-Key": WRITE_KEY})
    assert answer.status_code == 401
    assert operator.events(event["messageId"]) == []


async def test_a_source_that_is_disabled_gets_no_events(operator: Operator) -> None:
    """The source decides today: disabled or deleted, its failed events stay where they are."""
    headers = operator.gateway.bearer("clew.admin")
    sources = "/v1/workspaces/main/sources"
    await operator.client.post(sources, json={"name": "shop"}, headers=headers)
    key = (await operator.client.post(f"{sources}/shop/writeKeys", json={}, headers=headers)).json()["secret"]
    event = nameless()
    await operator.client.post("/v1/batch", json={"batch": [event]}, headers={"X-Write-Key": key})
    mask = {"updateMask": "disabled"}
    await operator.client.patch(f"{sources}/shop", json={"disabled": True}, params=mask, headers=headers)
    (result,) = await operator.redrive({"offset": operator.refused, **mended(event)})
    assert result["status"] == "REDRIVE_STATUS_NO_SOURCE"
    await operator.client.patch(f"{sources}/shop", json={"disabled": False}, params=mask, headers=headers)
    (result,) = await operator.redrive({"offset": operator.refused, **mended(event)})
    assert result["verdict"] == "VERDICT_ACCEPTED"
    assert operator.events(event["messageId"])[0].source == "shop"


async def test_the_rate_of_the_source_holds(operator: Operator) -> None:
    """Beyond the burst of the source nothing of it is sent, in order, and it says why; other sources' events are."""
    headers = operator.gateway.bearer("clew.admin")
    sources = "/v1/workspaces/main/sources"
    await operator.client.post(sources, json={"name": "slow"}, headers=headers)
    key = (await operator.client.post(f"{sources}/slow/writeKeys", json={}, headers=headers)).json()["secret"]
    events = [nameless() for _ in range(10)]
    await operator.client.post("/v1/batch", json={"batch": events}, headers={"X-Write-Key": key})
    other = nameless()
    await operator.fail(other)
    limits = {"limits": {"eventsPerSecond": 0.01, "burst": 4}}
    mask = {"updateMask": "limits"}
    await operator.client.patch(f"{sources}/slow", json=limits, params=mask, headers=headers)
    results = await operator.redrive(
        *({"offset": operator.refused + at, **mended(event)} for at, event in enumerate([*events, other]))
    )
    statuses = [result["status"].removeprefix("REDRIVE_STATUS_") for result in results]
    assert statuses == ["SENT"] * 4 + ["UNANSWERED"] * 6 + ["SENT"]
    assert "RATE_LIMITED" in results[4]["detail"]


async def test_consent_decides_anew(operator: Operator) -> None:
    """What the event presents counts as it always does: refused purposes filter it, and that settles it."""
    refused = {"consent": {"categoryPreferences": {"Nobody knows this category": False}}}
    event = nameless(context=refused)
    offset = await operator.fail(event)
    (result,) = await operator.redrive({"offset": offset, **mended(event)})
    assert (result["verdict"], result["filterReason"]) == ("VERDICT_FILTERED", "FILTER_REASON_CONSENT")
    (again,) = await operator.redrive({"offset": offset, **mended(event)})
    assert again["status"] == "REDRIVE_STATUS_REDRIVEN_BEFORE"


async def test_an_event_that_is_named_twice_is_sent_once(operator: Operator) -> None:
    """Also under two message ids: one failed event never becomes two."""
    event = nameless()
    offset = await operator.fail(event)
    orders = [{"offset": offset, **mended(event, messageId=name)} for name in ("one", "two")]
    results = await operator.redrive(*orders, again=True)
    assert [result["status"] for result in results] == ["REDRIVE_STATUS_SENT", "REDRIVE_STATUS_REDRIVEN_BEFORE"]


async def test_kafka_that_is_away_is_unavailable(operator: Operator) -> None:
    """Without the topics nothing is known, and nothing is done."""
    event = nameless()
    offset = await operator.fail(event)
    operator.gateway.bus.stop()
    try:
        with pytest.raises(BusUnavailable):
            await restarted(operator).redrive(Order("tester", "main", [redrive_of(offset, event)]))
    finally:
        operator.gateway.bus.start()
