"""Bodies as the five client libraries send them, recorded or composed from recordings."""

import json
from pathlib import Path

import pytest

from clew.event.v1.context_pb2 import Context
from clew.event.v1.enriched_event_pb2 import EVENT_TIME_SOURCE_ORIGINAL
from clew.event.v1.event_pb2 import (
    EVENT_TYPE_ALIAS,
    EVENT_TYPE_GROUP,
    EVENT_TYPE_IDENTIFY,
    EVENT_TYPE_PAGE,
    EVENT_TYPE_SCREEN,
    EVENT_TYPE_TRACK,
    WARNING_NON_FINITE_NUMBER,
)
from gateway.decode import decode_request
from gateway.decode.types import DecodedRequest

RECEIVED_NS = 1_795_446_670_000_000_000  # 2026-11-23T15:11:10Z


def decoded(name: str, route: int | None = None) -> DecodedRequest:
    """Decode a recorded body."""
    return decode_request((Path(__file__).parent / "bodies" / name).read_bytes(), route, RECEIVED_NS)  # type: ignore[arg-type]


def context_of(serialized: bytes) -> Context:
    """Parse what a decoded context holds."""
    return Context.FromString(serialized)


@pytest.mark.parametrize("name", ["segment_python.json", "rudder_python.json"])
def test_python_libraries_send_all_six_calls(name: str) -> None:
    """Both Python libraries' six calls are accepted, the null anonymous id and the bare NaN included."""
    request = decoded(name)
    assert request.rejected == []
    assert [event.type for event in request.events] == [
        EVENT_TYPE_TRACK,
        EVENT_TYPE_IDENTIFY,
        EVENT_TYPE_GROUP,
        EVENT_TYPE_ALIAS,
        EVENT_TYPE_PAGE,
        EVENT_TYPE_SCREEN,
    ]
    track, identify, group, alias, page, screen = request.events
    assert (track.user_id, track.anonymous_id, track.event) == ("u1", "", "Order Completed")
    assert json.loads(track.properties_json)["revenue"] is None
    assert track.warnings == [WARNING_NON_FINITE_NUMBER]
    assert identify.traits_json == '{"email": "a@example.com"}'
    assert (group.group_id, group.traits_json) == ("g1", '{"name": "ACME"}')
    assert (alias.previous_id, alias.user_id) == ("anon-1", "u1")
    assert (page.name, page.category) == ("Home", "Docs")
    assert (screen.name, screen.category, screen.anonymous_id, screen.user_id) == ("Main", "", "a1", "")
    assert all(event.warnings == [] for event in request.events[1:])


def test_segment_python_keeps_every_digit() -> None:
    """2**53 + 1, which a float cannot hold, comes out as it went in, and the body's write key is handed on."""
    request = decoded("segment_python.json")
    assert '"big": 9007199254740993' in request.events[0].properties_json
    assert request.write_key == "wk"


def test_rudder_python_has_identify_traits_in_its_context_only() -> None:
    """Traits that stand only at `context.traits` become the identify call's traits, and stay in the context."""
    request = decoded("rudder_python.json")
    identify = request.events[1]
    assert identify.context.traits_json == identify.traits_json == '{"email": "a@example.com"}'
    assert identify.extra_json == '{"channel":"server"}'
    assert identify.integrations_json == '{"All": true}'
    assert request.write_key == ""


def test_events_of_one_batch_share_their_context() -> None:
    """The same context text gives the same object, and its library is typed."""
    request = decoded("segment_python.json")
    assert len({id(event.context) for event in request.events}) == 1
    assert context_of(request.events[0].context.serialized).library.name == "analytics-python"


def test_segment_node() -> None:
    """The Node library's batch is accepted; its metadata is kept as extra members."""
    request = decoded("segment_node.json")
    assert [event.type for event in request.events] == [EVENT_TYPE_TRACK, EVENT_TYPE_IDENTIFY, EVENT_TYPE_ALIAS]
    assert request.events[0].extra_json == '{"_metadata":{"nodeVersion":"22.11.0","jsRuntime":"node"}}'
    assert request.events[0].properties_json == '{"revenue":12.5,"orderId":"o-1"}'
    assert request.write_key == "wk"


def test_rudder_node() -> None:
    """RudderStack's Node library says `originalTimestamp` and `sentAt` per event; a number as user id is taken."""
    track, identify = decoded("rudder_node.json").events
    assert track.original_time_ns == 1_795_446_668_414_000_000
    assert track.sent_time_ns == 1_795_446_668_900_000_000
    assert track.event_time_source == EVENT_TIME_SOURCE_ORIGINAL
    assert identify.user_id == "42"


def test_segment_browser() -> None:
    """The browser's lone event is typed whole; its consent is taken out, its write key is no part of the event."""
    request = decoded("segment_browser.json", EVENT_TYPE_PAGE)
    (event,) = request.events
    context = event.context
    message = context_of(context.serialized)
    assert request.write_key == "wk"
    assert (event.type, event.name, event.user_id) == (EVENT_TYPE_PAGE, "Product", "")
    assert context.category_preferences == {"Analytics": True, "Advertising": False}
    assert (
        context.page_url == message.page.url == "https://shop.example.com/products/17?utm_source=news&utm_medium=email"
    )
    assert context.page_referrer == "https://search.example.com/"
    assert context.locale == "en-US"
    assert context.user_agent.startswith("Mozilla/5.0")
    assert (message.campaign.source, message.timezone) == ("news", "Europe/Amsterdam")
    assert set(json.loads(message.extra_json)) == {"userAgentData", "consent"}
    assert json.loads(message.extra_json)["consent"] == {"version": 2}
    assert "wk" not in json.loads(event.extra_json)
    assert event.warnings == []


def test_browser_batch_on_the_batch_route_and_lone_event_there() -> None:
    """The batch route takes the browser's lone event as well, by its `type`."""
    request = decoded("segment_browser.json")
    assert (request.count, request.events[0].type) == (1, EVENT_TYPE_PAGE)
