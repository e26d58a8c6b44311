"""The context: typed where the contract has a field, kept as text where it has none, and three things taken out."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from clew.enrich.v1.enrich_service_pb2 import EnrichmentQuery
from clew.event.v1.context_pb2 import Context
from clew.event.v1.event_pb2 import EVENT_TYPE_TRACK, WARNING_CONTEXT_TYPE, WARNING_IDENTITY_TOKEN_INVALID
from gateway.decode import decode_request
from gateway.decode.context import decode_context
from gateway.decode.errors import Rejection
from gateway.decode.types import EMPTY_CONTEXT, MALFORMED_PREFERENCES, DecodedContext
from mesh.validation import validate

RECEIVED_NS = 1_795_446_670_000_000_000
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJl"

FULL: dict[str, Any] = {
    "app": {"name": "Shop", "version": "1.2", "build": "7", "namespace": "com.example.shop"},
    "campaign": {"name": "n", "source": "s", "medium": "m", "term": "t", "content": "c"},
    "device": {
        "id": "d",
        "advertisingId": "a",
        "adTrackingEnabled": False,
        "manufacturer": "m",
        "model": "o",
        "name": "n",
        "type": "ios",
    },
    "library": {"name": "l", "version": "v"},
    "locale": "en-US",
    "network": {"bluetooth": False, "carrier": "c", "cellular": True, "wifi": False},
    "os": {"name": "iOS", "version": "26"},
    "page": {
        "path": "/p",
        "referrer": "https://r.example/",
        "search": "?q",
        "title": "T",
        "url": "https://u.example/p",
    },
    "referrer": {"id": "i", "type": "t", "name": "n", "url": "u", "link": "l"},
    "screen": {"width": 1920, "height": 1080, "density": 1.5},
    "timezone": "Europe/Amsterdam",
    "userAgent": "Mozilla/5.0",
    "groupId": "g1",
    "location": {"city": "c", "country": "NL", "latitude": 0.0, "longitude": 4.5, "region": "r"},
    "sessionId": 9007199254740993,
}


def decode(context: object) -> DecodedContext:
    """Decode a context given as an object."""
    return decode_context(json.dumps(context).encode())


def message(decoded: DecodedContext) -> Context:
    """Parse what a decoded context holds."""
    return Context.FromString(decoded.serialized)


def extra(decoded: DecodedContext) -> Any:
    """Parse the members that found no field."""
    text = message(decoded).extra_json
    return json.loads(text) if text else None


def test_every_field_of_the_contract_is_filled() -> None:
    """Each key of the specification lands in its field, false and zero included where absence means something else."""
    typed = MessageToDict(message(decode(FULL)), always_print_fields_with_no_presence=False)
    assert typed == {**FULL, "sessionId": "9007199254740993"}
    declared = {field.json_name for field in Context.DESCRIPTOR.fields} - {"extraJson", "traitsJson"}
    assert set(FULL) == declared
    for name, value in FULL.items():
        if isinstance(value, dict):
            nested = Context.DESCRIPTOR.fields_by_name[name].message_type
            assert nested is not None
            assert set(value) == {field.json_name for field in nested.fields}


def test_the_texts_that_enrichment_reads_are_at_hand() -> None:
    """User agent, page, locale and address stand beside the serialized message."""
    decoded = decode({**FULL, "ip": "203.0.113.9"})
    assert (decoded.user_agent, decoded.locale, decoded.ip) == ("Mozilla/5.0", "en-US", "203.0.113.9")
    assert (decoded.page_url, decoded.page_referrer) == ("https://u.example/p", "https://r.example/")


def test_unknown_keys_are_kept_as_they_came() -> None:
    """Keys without a field, nested ones too, are kept to the last digit, without a warning."""
    decoded = decode_context(
        b'{"a": 9007199254740993, "page": {"path":"/p","x": 1.10}, "timezone":"UTC", "\\u00e9": [1, 2]}'
    )
    assert message(decoded).extra_json == '{"a":9007199254740993,"page":{"x":1.10},"é":[1, 2]}'
    assert message(decoded).page.path == "/p"
    assert decoded.warnings == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("locale", 5),
        ("userAgent", ["a"]),
        ("page", "https://u.example/"),
        ("page", {"url": 5}),
        ("app", {"build": 120}),
        ("screen", {"width": "wide"}),
        ("screen", {"width": 2**31}),
        ("screen", {"width": 1.5}),
        ("screen", {"width": True}),
        ("screen", {"density": "2"}),
        ("network", {"wifi": "yes"}),
        ("network", {"wifi": 1}),
        ("sessionId", "abc"),
        ("sessionId", 2**63),
        ("location", {"latitude": 10**400}),
        ("traits", "text"),
        ("traits", []),
    ],
)
def test_a_value_of_another_type_is_kept_with_a_warning(key: str, value: object) -> None:
    """What does not fit its field goes to the extra members, and the event says so."""
    decoded = decode({key: value})
    assert extra(decoded) == {key: value}
    assert decoded.warnings == (WARNING_CONTEXT_TYPE,)


def test_null_is_absent() -> None:
    """An explicit null says nothing, at any level."""
    assert decode({"page": None, "locale": None, "ip": None, "traits": None, "consent": None}) is EMPTY_CONTEXT
    assert decode({"page": {"url": None}}) is EMPTY_CONTEXT
    assert decode({}) is EMPTY_CONTEXT


def test_traits_stay_text() -> None:
    """The context's traits are the text that came."""
    decoded = decode_context(b'{"traits":{"n": 9007199254740993 , "f":1.0}}')
    assert decoded.traits_json == message(decoded).traits_json == '{"n": 9007199254740993 , "f":1.0}'


@pytest.mark.parametrize("ip", ["203.0.113.9", "x" * 46, 5, {"v4": "203.0.113.9"}, ["203.0.113.9"]])
def test_no_address_reaches_the_message(ip: object) -> None:
    """An address is handed on beside the message, never inside it; what is none is dropped with a warning."""
    decoded = decode({"ip": ip, "locale": "en"})
    assert message(decoded) == Context(locale="en")
    assert decoded.ip == ("203.0.113.9" if ip == "203.0.113.9" else "")
    assert decoded.warnings == (() if decoded.ip else (WARNING_CONTEXT_TYPE,))


def test_no_token_reaches_the_message() -> None:
    """The identity token is handed on beside the message, under any spelling of its key, and stands nowhere else."""
    for key in (b"identityToken", b"identity\\u0054oken"):
        decoded = decode_context(b'{"%s":"%s","locale":"en","other":1}' % (key, TOKEN.encode()))
        assert decoded.identity_token == TOKEN
        assert message(decoded) == Context(locale="en", extra_json='{"other":1}')


@pytest.mark.parametrize("token", [5, ["a"], {"a": 1}, "x" * 8_193])
def test_a_token_that_cannot_be_one_is_dropped(token: object) -> None:
    """What is no text, or longer than 8 KB, proves nothing: it is dropped with a warning."""
    decoded = decode({"identityToken": token})
    assert (decoded.identity_token, decoded.serialized) == ("", b"")
    assert decoded.warnings == (WARNING_IDENTITY_TOKEN_INVALID,)


def test_the_token_stands_nowhere_in_the_event() -> None:
    """Of a whole event, only the context's own token field holds the token."""
    body = json.dumps({"event": "Seen", "userId": "u1", "context": {"identityToken": TOKEN}, "x": 1}).encode()
    (event,) = decode_request(body, EVENT_TYPE_TRACK, RECEIVED_NS).events
    assert event.context.identity_token == TOKEN
    for text in (event.properties_json, event.traits_json, event.extra_json, event.integrations_json):
        assert TOKEN not in text
    assert TOKEN.encode() not in event.context.serialized


@pytest.mark.parametrize(
    ("context", "preferences"),
    [
        ({}, None),
        ({"consent": None}, None),
        ({"consent": {}}, None),
        ({"consent": {"version": 2}}, None),
        ({"consent": {"categoryPreferences": {}}}, {}),
        ({"consent": {"categoryPreferences": {"A": True, "B": False}}}, {"A": True, "B": False}),
        ({"consentManagement": {"allowedConsentIds": ["A"], "deniedConsentIds": ["B"]}}, {"A": True, "B": False}),
        ({"consentManagement": {"deniedConsentIds": ["A"], "allowedConsentIds": ["A"]}}, {"A": False}),
        ({"consentManagement": {"allowedConsentIds": {"A": "Analytics"}}}, {"A": True}),
        ({"consentManagement": {"provider": "custom"}}, None),
        (
            {"consent": {"categoryPreferences": {"A": True}}, "consentManagement": {"deniedConsentIds": ["A"]}},
            {"A": False},
        ),
    ],
)
def test_presented_consent(context: object, preferences: object) -> None:
    """Segment's and RudderStack's forms are read alike; where both are presented, a refusal wins."""
    assert decode(context).category_preferences == preferences


@pytest.mark.parametrize(
    "context",
    [
        {"consent": "yes"},
        {"consent": []},
        {"consent": {"categoryPreferences": None}},
        {"consent": {"categoryPreferences": ["A"]}},
        {"consent": {"categoryPreferences": "all"}},
        {"consent": {"categoryPreferences": {"A": "true"}}},
        {"consent": {"categoryPreferences": {"A": 1}}},
        {"consent": {"categoryPreferences": {"A": None}}},
        {"consent": {"categoryPreferences": {str(number): True for number in range(65)}}},
        {"consent": {"categoryPreferences": {"A" * 257: True}}},
        {"consentManagement": "none"},
        {"consentManagement": {"deniedConsentIds": "A"}},
        {"consentManagement": {"deniedConsentIds": [1]}},
    ],
)
def test_consent_that_cannot_be_read_refuses_everything(context: object) -> None:
    """Malformed consent fails closed, says so, and is kept for whoever mends the client."""
    decoded = decode(context)
    assert decoded.category_preferences is MALFORMED_PREFERENCES
    assert not any(decoded.category_preferences.values())
    assert decoded.warnings == (WARNING_CONTEXT_TYPE,)
    assert extra(decoded) == context


def test_malformed_consent_beside_good_consent_refuses_everything() -> None:
    """One readable form does not make up for the other."""
    decoded = decode({"consent": {"categoryPreferences": {"A": True}}, "consentManagement": 5})
    assert decoded.category_preferences == {"A": True, "<malformed>": False}


def test_other_consent_keys_are_kept() -> None:
    """Beside the preferences, what the consent manager says is kept; the preferences themselves are not."""
    decoded = decode({"consent": {"categoryPreferences": {"A": True}, "version": 2}})
    assert extra(decoded) == {"consent": {"version": 2}}


def test_results_are_shared_by_text_and_bounded() -> None:
    """The same short text gives the same object; a long one is decoded anew rather than kept."""
    assert decode(FULL) is decode(FULL)
    long = {"a": "x" * 5_000}
    assert decode(long) is not decode(long)


def test_depth_counts_from_the_event() -> None:
    """The context may have fifteen levels, for the event around it is the first."""
    assert decode_context(b'{"a":' * 15 + b"1" + b"}" * 15).serialized
    with pytest.raises(Rejection):
        decode_context(b'{"a":' * 16 + b"1" + b"}" * 16)


def test_what_enrichment_looks_at_is_cut_to_its_contract_and_kept_whole_in_the_context() -> None:
    """One overlong field would otherwise have a whole batch of other people's events refused."""
    long = {"userAgent": "u" * 3_000, "locale": "l" * 70, "page": {"url": "p" * 9_000, "referrer": "r" * 9_000}}
    decoded = decode_context(json.dumps(long).encode())
    query = EnrichmentQuery(
        user_agent=decoded.user_agent,
        page_url=decoded.page_url,
        page_referrer=decoded.page_referrer,
        locale=decoded.locale,
    )
    validate(query)
    assert [len(query.user_agent), len(query.page_url), len(query.page_referrer)] == [2_048, 8_192, 8_192]
    kept = Context.FromString(decoded.serialized)
    assert (len(kept.user_agent), len(kept.page.url), len(kept.locale)) == (3_000, 9_000, 70)
