"""Segment's JSON to an `EnrichedEvent`, by `json_format`."""

import json
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import ParseDict

from clew.consent.v1.consent_pb2 import ConsentDecision
from clew.enrich.v1.enrich_service_pb2 import EnrichmentQuery
from clew.enrich.v1.enrichment_pb2 import Enrichment
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.identity.v1.identity_service_pb2 import IdentityQuery, ResolvedIdentity

COPIED = ("messageId", "anonymousId", "userId", "groupId", "previousId", "event", "name", "category")
AS_JSON = {"properties": "propertiesJson", "traits": "traitsJson", "integrations": "integrationsJson"}


def identity_query(event: dict[str, Any]) -> IdentityQuery:
    """The identifiers of an event."""
    return IdentityQuery(
        anonymous_id=event.get("anonymousId") or "",
        user_id=event.get("userId") or "",
        previous_id=event.get("previousId") or "",
    )


def enrichment_query(event: dict[str, Any], client_ip: str) -> EnrichmentQuery:
    """What an event is enriched from."""
    context = event.get("context") or {}
    page = context.get("page") or {}
    return EnrichmentQuery(
        user_agent=context.get("userAgent") or "",
        ip=context.get("ip") or client_ip,
        page_url=page.get("url") or "",
        page_referrer=page.get("referrer") or "",
        locale=context.get("locale") or "",
    )


def build(
    event: dict[str, Any],
    sent_at: str | None,
    identity: ResolvedIdentity,
    decision: ConsentDecision,
    enrichment: Enrichment,
) -> EnrichedEvent:
    """Put an event together.

    Raises:
        ParseError: A field does not have the type that the contract gives it.
    """
    now = datetime.now(UTC).isoformat()
    happened = event.get("timestamp") or event.get("originalTimestamp")
    document = {
        **{key: event[key] for key in COPIED if event.get(key) is not None},
        **{field: json.dumps(event[key]) for key, field in AS_JSON.items() if event.get(key)},
        "workspace": "bench",
        "source": "bench",
        "type": f"EVENT_TYPE_{str(event.get('type', '')).upper()}",
        "profileId": identity.profile_id,
        "context": _context(event.get("context") or {}),
        "receivedTime": now,
        "eventTime": happened or now,
        "eventTimeSource": "EVENT_TIME_SOURCE_ORIGINAL" if happened else "EVENT_TIME_SOURCE_RECEIVED",
    }
    if happened:
        document["originalTime"] = happened
    if sent_at:
        document["sentTime"] = sent_at
    message = ParseDict(document, EnrichedEvent(), ignore_unknown_fields=True)
    message.assurance = identity.assurance
    message.consent.CopyFrom(decision)
    message.enrichment.CopyFrom(enrichment)
    return message


def _context(context: dict[str, Any]) -> dict[str, Any]:
    """The context without the address; traits as text."""
    kept = {key: value for key, value in context.items() if key not in {"ip", "traits"} and value is not None}
    if context.get("traits"):
        kept["traitsJson"] = json.dumps(context["traits"])
    return kept
