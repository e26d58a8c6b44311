"""A consumer in a process of its own, with whatever generated code its PYTHONPATH holds.

Reads an EnrichedEvent in hexadecimal from standard input, writes JSON: what it sees, and the event serialized again.
"""

import json
import sys

from clew.event.v1.enriched_event_pb2 import EnrichedEvent

event = EnrichedEvent.FromString(bytes.fromhex(sys.stdin.read()))
seen = {
    "known": [field.name for field in EnrichedEvent.DESCRIPTOR.fields],
    "message_id": event.message_id,
    "type": event.type,
    "profile_epoch": getattr(event, "profile_epoch", None),
    "browser": event.enrichment.client.browser,
    "serialized": event.SerializeToString().hex(),
}
json.dump(seen, sys.stdout)
