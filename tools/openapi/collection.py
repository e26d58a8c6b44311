"""The paths that no contract describes: the Segment wire, what browsers ask for, and what operators look at.

An event is described and not constrained: the edge takes any object, and says in its answer what became of it.
"""

from typing import Any, Final

from gateway.admission import ADMIN_SCOPE
from gateway.routes.collect import PATHS
from tools.openapi.operations import WRITE_KEY
from tools.openapi.rules import Schema

_PROBLEM: Final[Schema] = {"$ref": "#/components/responses/Problem"}
_SCHEMAS: Final = "#/components/schemas/"
_WORDS: Final = {
    "track": "what somebody did",
    "identify": "who somebody is",
    "page": "a page that was seen",
    "screen": "a screen that was seen",
    "group": "which group somebody belongs to",
    "alias": "that two ids are one person",
}
_VERDICTS: Final = ("accepted", "duplicate", "rejected", "filtered", "deferred")
_COLLECT: Final = (
    "The Segment HTTP API, as unmodified SDKs send it, gzip or not. 200 for every body that can be read: what is wrong "
    "with single events stands in the answer. Anything else promises nothing: send again with the same message ids."
)
_EVENT: Final[dict[str, tuple[str, object]]] = {
    "type": ("Which of the six calls it is; the path says so where it names one.", "track"),
    "messageId": ("The client's id of this event, stable over its retries; at most 100 characters.", "m-1"),
    "anonymousId": ("Random id of the visitor; this or `userId` is required.", "a-1"),
    "userId": ("The customer's own id of the user.", "u-1"),
    "event": ("Name of a track call.", "Order Completed"),
    "name": ("Name of a page or screen.", "Home"),
    "groupId": ("The group of a group call.", "g-1"),
    "previousId": ("The id that an alias call replaces.", "a-1"),
    "properties": ("Free-form; stays as it was sent.", {"total": 12.5}),
    "traits": ("Free-form; stays as it was sent.", {"plan": "pro"}),
    "context": ("Circumstances: page, device, campaign, consent.", {"page": {"path": "/"}}),
    "timestamp": ("When it happened, ISO 8601.", "2026-11-25T10:00:00Z"),
    "writeKey": ("The source's write key, for clients that send no header.", "wk_1"),
}


def static_paths() -> dict[str, dict[str, Any]]:
    """The paths by their text."""
    found: dict[str, dict[str, Any]] = {path: {"post": _collect(path)} for path in PATHS}
    found["/v1/projects/{writeKey}/settings"] = {"get": _SETTINGS}
    found["/v1/admin/stats"] = {"get": _STATS}
    for path, (summary, problem) in _PROBES.items():
        answers: Schema = {"200": _json(summary + ".")} | ({"503": _json(problem)} if problem else {})
        found[path] = {"get": _get(path, "Operation", summary, answers)}
    return found


def static_schemas() -> dict[str, Schema]:
    """The schemas that they refer to."""
    counts: dict[str, Schema] = {name: {"type": "integer"} for name in _VERDICTS}
    verdict = {
        "type": "object",
        "required": ["messageId", "verdict"],
        "properties": {
            "messageId": {"type": "string"},
            "verdict": {"type": "string", "enum": list(_VERDICTS)},
            "reason": {"type": "string", "description": "Why it was not accepted."},
            "detail": {"type": "string", "description": "What is wrong and what to do, for people."},
        },
    }
    return {
        "SegmentEvent": {
            "type": "object",
            "description": "One call of a client library.",
            "properties": {name: {"description": text, "examples": [one]} for name, (text, one) in _EVENT.items()},
        },
        "SegmentBatch": {
            "type": "object",
            "description": "Events that travel together, up to 2,500 and 500 KB; or one event by itself.",
            "properties": {
                "batch": {
                    "description": "The events, each with its `type`.",
                    "examples": [[{"type": "page", "anonymousId": "a-1"}]],
                },
                "sentAt": {"description": "The client's clock when it sent, ISO 8601."},
                "writeKey": {"description": _EVENT["writeKey"][0]},
            },
        },
        "CollectAnswer": {
            "type": "object",
            "description": "What became of each event, in order. Every accepted one is acknowledged by Kafka.",
            "required": ["success", *_VERDICTS, "events"],
            "properties": {
                "success": {"type": "boolean"},
                **counts,
                "events": {"type": "array", "items": verdict},
            },
        },
    }


def _collect(path: str) -> Schema:
    name = path.rpartition("/")[2]
    call = name if name in _WORDS else next((word for word in _WORDS if len(name) == 1 and word[0] == name), "")
    schema = "SegmentEvent" if call else "SegmentBatch"
    summary = f"Take {_WORDS[call]}" if call else "Take a batch of events"
    return {
        "operationId": f"collect_{name}",
        "tags": ["Segment"],
        "summary": summary,
        "description": _COLLECT,
        "security": [*WRITE_KEY, {}],
        "requestBody": {
            "required": True,
            # A bare list of events is read too.
            "content": {"application/json": {"schema": {"anyOf": [{"$ref": _SCHEMAS + schema}, {"type": "array"}]}}},
        },
        "responses": {
            "200": _json("A verdict for each event.", {"$ref": _SCHEMAS + "CollectAnswer"}),
            "400": _PROBLEM,
            "401": _PROBLEM,
            "503": _PROBLEM,
            "default": _PROBLEM,
        },
    }


def _json(text: str, schema: Schema | None = None) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": schema or {"type": "object"}}}}


def _get(path: str, tag: str, summary: str, answers: Schema) -> Schema:
    name = path.strip("/").replace("/", "_").replace(".", "_")
    return {
        "operationId": f"get_{name}",
        "tags": [tag],
        "summary": summary,
        "security": [],
        "responses": {**answers, "default": _PROBLEM},
    }


_SETTINGS: Final[Schema] = {
    **_get(
        "settings",
        "Segment",
        "The settings of a source, for analytics.js",
        {"200": _json("The settings."), "404": _PROBLEM},
    ),
    "parameters": [
        {"name": "writeKey", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
    ],
}
_STATS: Final[Schema] = {
    **_get(
        "stats",
        "Operation",
        "What became of all events since the start",
        {"200": _json("The counts."), "401": _PROBLEM, "403": _PROBLEM},
    ),
    "security": [{"bearer": [ADMIN_SCOPE]}],
}
_PROBES: Final = {
    "/healthz": ("Whether the process runs", ""),
    "/readyz": ("Whether events can be taken", "What is missing."),
}
