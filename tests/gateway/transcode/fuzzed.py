"""schemathesis on a running gateway, through its Python API: what it found, in words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

ENDLESS = "/v1/events:tail"


@dataclass(slots=True)
class Found:
    """What a run did and found."""

    cases: int = 0
    operations: set[str] = field(default_factory=set)
    statuses: set[int] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)


def fuzz(url: str, headers: Mapping[str, str], *, examples: int, seed: int) -> Found:
    """Send what the served document allows, and what it does not, and check every answer against it.

    Args:
        url: Where the gateway is.
        headers: Credentials for all operations.
        examples: Generated cases of an operation and phase, at most.
        seed: The same seed sends the same cases.
    """
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "headers": dict(headers),
            "request-timeout": 20,
            "generation": {"max-examples": examples, "database": "none", "no-shrink": True},
            "phases": {"stateful": {"enabled": False}},
            # Rules that JSON Schema has no words for (a page token that was issued, a purpose named once, a time that
            # is over, either of two ids) refuse what it allows. All other checks run.
            "checks": {"positive_data_acceptance": {"enabled": False}},
            # Events of the Segment wire are taken one by one: what is wrong with one is told in a 200.
            # Their one-letter paths are the same handlers once more.
            "operations": [
                {"include-tag": "Segment", "checks": {"negative_data_rejection": {"enabled": False}}},
                {"include-path-regex": "^/v1/[a-z]$", "enabled": False},
                # What it allows is a stream without end: what is refused can be waited for.
                {"include-path": ENDLESS, "generation": {"mode": "negative"}, "request-timeout": 2},
            ],
            "warnings": False,
        }
    )
    found = Found()
    for event in from_schema(schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)).execute():
        match event:
            case events.ScenarioFinished():
                _note(event, found)
            case events.NonFatalError() if event.label == f"POST {ENDLESS}" and event.info.title == "Network Error":
                # Some of what schemathesis takes for wrong is right, such as another content type: nothing ends then.
                pass
            case events.NonFatalError():
                found.failures.append(f"{event.label}: {event.info.title} {event.info.message}")
            case events.FatalError():
                raise event.exception
            case _:
                pass
    return found


def _note(event: events.ScenarioFinished, found: Found) -> None:
    recorder = event.recorder
    found.operations.add(recorder.label)
    found.cases += len(recorder.interactions)
    found.statuses.update(each.response.status_code for each in recorder.interactions.values() if each.response)
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                interaction = recorder.interactions.get(case_id)
                sent = interaction.request if interaction else None
                answered = interaction.response if interaction else None
                body = sent.body[:300] if sent and sent.body else b""
                found.failures.append(
                    f"{recorder.label}: {check.name}: {check.failure_info.failure.title}:"
                    f" {check.failure_info.failure.message[:400]}"
                    f"\n  sent {sent.method if sent else ''} {sent.uri if sent else ''} {body!r}"
                    f" {json.dumps(dict(sent.headers) if sent else {}, default=str)[:400]}"
                    f"\n  got {answered.status_code if answered else ''}"
                    f" {answered.content[:300] if answered and answered.content else b''!r}"
                )
