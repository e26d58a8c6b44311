"""What the demo does and shows, chapter by chapter; each says what it promised and did not see."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import rudderstack.analytics
import segment.analytics
from rich.console import Console

from clew.consent.v1.consent_pb2 import Choice, PurposeChoice
from clew.consent.v1.consent_service_pb2 import RecordConsentRequest
from clew.consent.v1.consent_service_pb2_grpc import ConsentServiceStub
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.event_pb2 import EventType
from clew.event.v1.failed_event_pb2 import FailedEvent
from clew.identity.v1.identifier_pb2 import Assurance, Identifier, IdentifierKind
from clew.identity.v1.identity_service_pb2 import GetProfileRequest, IssueTokenRequest
from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from clew.identity.v1.profile_changed_pb2 import ProfileChanged
from clew.identity.v1.profile_pb2 import Profile
from clew.options.v1.privacy_pb2 import Purpose
from cli.endpoints import Endpoints
from cli.layout import BACKEND_CLIENT, WORKSPACE, Layout
from cli.records import Decoded, Message, consume
from cli.send import post
from cli.tables import print_table
from cli.trace import print_waterfall
from mesh.spans import find_trace, last_trace_id

_VISITOR = "anon-theseus"
_PRIVATE = "anon-private"
_USER = "u-theseus"
_BROKEN = "demo-bad"
_SECONDS = 10.0
_AGENT = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.1 Mobile/15E148 Safari/604.1"
)
_CONTEXT = {
    "userAgent": _AGENT,
    "ip": "81.2.69.142",
    "locale": "en-GB",
    "page": {
        "url": "https://shop.example/maze?utm_source=newsletter&utm_medium=email&utm_campaign=autumn",
        "referrer": "https://www.google.com/",
        "path": "/maze",
        "title": "The Maze",
    },
}


class Story:
    """Drives a running mesh with unmodified SDKs and shows what came of it."""

    def __init__(self, data_dir: Path, console: Console) -> None:
        self._data_dir = data_dir
        self._console = console
        self._endpoints = Endpoints.read(data_dir)
        self._secrets = Layout(data_dir).prepare()
        self._refused_id = "demo-refused"
        # A real Kafka may hold other people's events, and those of earlier demos.
        self._began_ns = time.time_ns()
        options: dict[str, Any] = {"max_retries": 3, "upload_interval": 0.1}
        self._segment = segment.analytics.Client(self._endpoints.write_key, host=self._endpoints.http, **options)
        self._rudder = rudderstack.analytics.Client(self._endpoints.write_key, host=self._endpoints.http, **options)

    def anonymous_visit(self) -> list[str]:
        """An unknown visitor looks around; segment-analytics-python sends it."""
        self._title("An anonymous visitor", "segment-analytics-python: page, screen, track")
        self._segment.page(anonymous_id=_VISITOR, name="The Maze", context=_CONTEXT)
        self._segment.screen(anonymous_id=_VISITOR, name="Cart", context=_CONTEXT)
        properties = {"length": 2**53 + 1}
        self._segment.track(anonymous_id=_VISITOR, event="Thread Picked Up", properties=properties, context=_CONTEXT)
        self._segment.flush()
        return self._show_profile(Identifier(kind=IdentifierKind.IDENTIFIER_KIND_ANONYMOUS_ID, value=_VISITOR))

    def login(self) -> list[str]:
        """The visitor signs up; rudder-sdk-python sends it. The profile stays, with a user id in it."""
        self._title("The visitor signs up", "rudder-sdk-python: identify, group, alias, track")
        self._rudder.identify(_USER, anonymous_id=_VISITOR, traits={"plan": "hero"}, context=_CONTEXT)
        self._rudder.group(_USER, "athens", traits={"name": "Athens"}, context=_CONTEXT)
        self._rudder.alias("anon-old-phone", _USER, context=_CONTEXT)
        self._rudder.track(_USER, "Order Completed", {"total": 12.5}, context=_CONTEXT, anonymous_id=_VISITOR)
        self._rudder.flush()
        return self._show_profile(Identifier(kind=IdentifierKind.IDENTIFIER_KIND_USER_ID, value=_USER))

    def proof(self) -> list[str]:
        """The customer's backend proves the login with a token; the same SDK carries it in the context."""
        self._title("The login is proven", "IssueToken for the user; the Segment SDK sends it as context.identityToken")
        with self._channel("identity") as channel:
            secret = self._secrets.backend_secret
            request = IssueTokenRequest(client_id=BACKEND_CLIENT, client_secret=secret, subject=_USER)
            token = IdentityServiceStub(channel).IssueToken(request, timeout=_SECONDS).access_token
        context = {**_CONTEXT, "identityToken": token}
        self._segment.track(_USER, "Account Opened", anonymous_id=_VISITOR, context=context)
        self._segment.flush()
        return self._show_profile(Identifier(kind=IdentifierKind.IDENTIFIER_KIND_USER_ID, value=_USER))

    def refusal(self) -> list[str]:
        """Another visitor withdraws every consent; the next event is not kept."""
        self._title("A visitor refuses", "RecordConsent denies every purpose; the next event is filtered")
        self._post({"type": "page", "anonymousId": _PRIVATE, "messageId": "demo-before"})
        profile = self._profile(Identifier(kind=IdentifierKind.IDENTIFIER_KIND_ANONYMOUS_ID, value=_PRIVATE))
        choices = [
            PurposeChoice(purpose=purpose, choice=Choice.CHOICE_DENIED) for purpose in Purpose.values() if purpose
        ]
        with self._channel("consent") as channel:
            request = RecordConsentRequest(
                workspace=WORKSPACE, subject=profile.profile_id, choices=choices, origin="privacy settings"
            )
            epoch = ConsentServiceStub(channel).RecordConsent(request, timeout=_SECONDS).record.epoch
        answer = self._post({"type": "page", "anonymousId": _PRIVATE, "messageId": self._refused_id})
        verdict = answer["events"][0]
        self._console.print(f"  recorded as epoch {epoch}")
        self._console.print(f"  verdict [yellow]{verdict['verdict']}[/yellow]: {verdict.get('detail', '')}")
        return [] if verdict["verdict"] == "filtered" else [f"the refused event was {verdict['verdict']}"]

    def failure(self) -> list[str]:
        """A bad event beside a good one: 200, one verdict each, and the bad one kept with its reason."""
        self._title("A broken event", "one good and one bad event in one batch: 200, a verdict for each")
        answer = self._post(
            {"type": "track", "event": "Good", "anonymousId": _VISITOR, "messageId": "demo-good"},
            {"type": "track", "event": "Nobody's", "messageId": _BROKEN},
        )
        for verdict in answer["events"]:
            self._console.print(f"  {verdict['messageId']:<10} {verdict['verdict']:<9} {verdict.get('detail', '')}")
        verdicts = [verdict["verdict"] for verdict in answer["events"]]
        return [] if verdicts == ["accepted", "rejected"] else [f"the verdicts were {verdicts}"]

    def records(self) -> list[str]:
        """Everything that is on the topics now."""
        self._title("What is on Kafka", "decoded from the topics' schema-versioned protobuf")
        found = self._consume(expected_events=10, expected_failed=1)
        headings = ("call", "what", "user", "assurance", "profile", "from", "campaign", "allowed")
        rows = [_cells(record.message) for record in found if isinstance(record.message, EnrichedEvent)]
        print_table(headings, rows, self._console)
        failed = [record.message for record in found if isinstance(record.message, FailedEvent)]
        for message in failed:
            self._console.print(f"  failed: {message.message_id}: {message.detail}", style="yellow")
        return self._judge_records(found, failed)

    def _judge_records(self, found: list[Decoded], failed: list[FailedEvent]) -> list[str]:
        events = [record.message for record in found if isinstance(record.message, EnrichedEvent)]
        theseus = {event.profile_id for event in events if event.anonymous_id == _VISITOR or event.user_id == _USER}
        checks = {
            f"{len(events)} events are on the topic, not 10": len(events) == 10,
            "the refused event is on the topic": all(event.message_id != self._refused_id for event in events),
            "no event is verified": any(event.assurance == Assurance.ASSURANCE_VERIFIED for event in events),
            f"the visitor has {len(theseus)} profiles": len(theseus) == 1,
            "the failed event is not on its topic": any(event.message_id == _BROKEN for event in failed),
        }
        return [problem for problem, fine in checks.items() if not fine]

    def trace(self) -> list[str]:
        """The last request through all four processes."""
        self._title("The last request's trace", "clew trace last")
        deadline = time.monotonic() + _SECONDS
        spans: list[Any] = []
        while time.monotonic() < deadline and len({span.service for span in spans}) < 4:
            time.sleep(0.2)
            trace_id = last_trace_id(self._data_dir)
            spans = list(find_trace(self._data_dir, trace_id)) if trace_id else []
        print_waterfall(spans, self._console)
        services = {span.service for span in spans}
        return [] if len(services) == 4 else [f"the trace holds spans of {sorted(services)} only"]

    def _title(self, title: str, how: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{title}[/bold]", align="left")
        self._console.print(f"  {how}", style="dim")

    def _post(self, *events: dict[str, Any]) -> dict[str, Any]:
        batch = [{"context": _CONTEXT, **event} for event in events]
        return post(self._endpoints, json.dumps({"batch": batch}).encode(), write_key=self._endpoints.write_key)

    @contextmanager
    def _channel(self, service: str) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self._endpoints.grpc[service]) as channel:
            yield channel

    def _profile(self, identifier: Identifier) -> Profile:
        with self._channel("identity") as channel:
            request = GetProfileRequest(workspace=WORKSPACE, identifier=identifier)
            return IdentityServiceStub(channel).GetProfile(request, timeout=_SECONDS).profile

    def _show_profile(self, identifier: Identifier) -> list[str]:
        try:
            profile = self._profile(identifier)
        except grpc.RpcError as error:
            return [f"the profile of {identifier.value} cannot be read: {error}"]
        self._console.print(f"  profile {profile.profile_id}, {_word(Assurance, profile.assurance)}")
        for entry in profile.identifiers:
            kind = _word(IdentifierKind, entry.identifier.kind).removeprefix("kind_")
            self._console.print(f"    {kind:<13} {entry.identifier.value:<16} {_word(Assurance, entry.assurance)}")
        return []

    def _consume(self, *, expected_events: int, expected_failed: int) -> list[Decoded]:
        deadline = time.monotonic() + _SECONDS
        found: list[Decoded] = []
        wanted = expected_events + expected_failed
        stop = lambda: len(found) >= wanted or time.monotonic() > deadline  # noqa: E731
        records = consume(self._endpoints.kafka, from_beginning=True, stop=stop)
        found.extend(record for record in records if record is not None and self._is_ours(record))
        return sorted(found, key=lambda record: _received_ns(record.message))

    def _is_ours(self, record: Decoded) -> bool:
        message = record.message
        if isinstance(message, ProfileChanged) or _received_ns(message) < self._began_ns:
            return False
        if isinstance(message, FailedEvent):
            return message.message_id == _BROKEN
        return message.user_id == _USER or message.anonymous_id in {_VISITOR, _PRIVATE}


def _received_ns(message: Message) -> int:
    return 0 if isinstance(message, ProfileChanged) else message.received_time.ToNanoseconds()


def _word(enum: Any, number: int) -> str:
    return str(enum.Name(number)).partition("_")[2].lower()


def _cells(event: EnrichedEvent) -> list[str]:
    enrichment = event.enrichment
    return [
        EventType.Name(event.type).removeprefix("EVENT_TYPE_").lower(),
        event.event or event.name or event.group_id or event.previous_id,
        event.user_id or "-",
        _word(Assurance, event.assurance),
        event.profile_id[-8:],
        f"{enrichment.geo.country} {enrichment.client.os}",
        enrichment.attribution.campaign,
        ",".join(_word(Purpose, number) for number in event.consent.granted_purposes),
    ]
