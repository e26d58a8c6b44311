"""The servicer: messages in, the consents asked, messages out."""

from collections.abc import Iterable
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from clew.consent.v1 import consent_service_pb2 as messages
from clew.consent.v1.consent_pb2 import (
    CHOICE_DENIED,
    CHOICE_GRANTED,
    Choice,
    ConsentBasis,
    ConsentDecision,
    ConsentRecord,
    PurposeChoice,
)
from clew.consent.v1.consent_service_pb2_grpc import ConsentServiceServicer
from clew.options.v1.privacy_pb2 import Purpose
from consent_svc.consents import Consents, Query, Verdict
from consent_svc.ledger import Entry, Statement
from consent_svc.purpose import mask_of, numbers_of
from consent_svc.subject import canonical
from mesh.streams.server import StreamOf

_DEFAULT_PAGE_SIZE = 100
_NS = 10**9


class ConsentServicer(ConsentServiceServicer):
    """`clew.consent.v1.ConsentService`. Requests were validated against the contract before they come here."""

    def __init__(self, consents: Consents) -> None:
        self._consents = consents

    async def BatchCheckConsents(  # noqa: N802 - the contract's name
        self,
        request: messages.BatchCheckConsentsRequest,
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002 - grpc's signature
    ) -> messages.BatchCheckConsentsResponse:
        """Decide for each item which purposes are allowed."""
        queries = [
            Query(
                canonical(item.subject),
                [*map(canonical, merged)] if (merged := item.merged_subjects) else (),
                item.category_preferences,
            )
            for item in request.items
        ]
        epoch, verdicts = await self._consents.check(request.workspace, queries)
        # A batch holds few different decisions: each is built once.
        decisions = {verdict: _decision(verdict, epoch) for verdict in set(verdicts)}
        return messages.BatchCheckConsentsResponse(decisions=[decisions[verdict] for verdict in verdicts])

    StreamCheckConsents = StreamOf(BatchCheckConsents, messages.StreamCheckConsentsResponse)  # type: ignore[assignment]

    async def RecordConsent(  # noqa: N802 - the contract's name
        self,
        request: messages.RecordConsentRequest,
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002 - grpc's signature
    ) -> messages.RecordConsentResponse:
        """Append a person's choices to the ledger."""
        entry = await self._consents.record(_statement(request))
        return messages.RecordConsentResponse(record=_record(entry))

    async def ListConsentHistory(  # noqa: N802 - the contract's name
        self,
        request: messages.ListConsentHistoryRequest,
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002 - grpc's signature
    ) -> messages.ListConsentHistoryResponse:
        """Return a page of a person's entries, newest first."""
        page_size = request.page_size or _DEFAULT_PAGE_SIZE
        subject = canonical(request.subject)
        page = await self._consents.history(request.workspace, subject, page_size, request.page_token)
        return messages.ListConsentHistoryResponse(
            records=[_record(entry) for entry in page.entries], next_page_token=page.next_token
        )


def _decision(verdict: Verdict, epoch: int) -> ConsentDecision:
    return ConsentDecision(
        granted_purposes=_purposes(verdict.granted), epoch=epoch, basis=ConsentBasis.ValueType(verdict.basis)
    )


def _statement(request: messages.RecordConsentRequest) -> Statement:
    return Statement(
        workspace=request.workspace,
        subject=canonical(request.subject),
        granted=_mask(request.choices, CHOICE_GRANTED),
        denied=_mask(request.choices, CHOICE_DENIED),
        origin=request.origin,
        policy_version=request.policy_version,
        decide_ns=_unix_ns(request.decide_time) if request.HasField("decide_time") else None,
    )


def _record(entry: Entry) -> ConsentRecord:
    granted = [PurposeChoice(purpose=purpose, choice=CHOICE_GRANTED) for purpose in _purposes(entry.granted)]
    denied = [PurposeChoice(purpose=purpose, choice=CHOICE_DENIED) for purpose in _purposes(entry.denied)]
    return ConsentRecord(
        epoch=entry.epoch,
        subject=entry.subject,
        choices=sorted(granted + denied, key=lambda choice: choice.purpose),
        origin=entry.origin,
        policy_version=entry.policy_version,
        decide_time=_timestamp(entry.decide_ns),
        record_time=_timestamp(entry.record_ns),
    )


def _mask(choices: Iterable[PurposeChoice], choice: Choice.ValueType) -> int:
    return mask_of(entry.purpose for entry in choices if entry.choice == choice)


def _purposes(mask: int) -> list[Purpose.ValueType]:
    return [Purpose.ValueType(number) for number in numbers_of(mask)]


def _unix_ns(time: Timestamp) -> int:
    return time.seconds * _NS + time.nanos


def _timestamp(unix_ns: int) -> Timestamp:
    return Timestamp(seconds=unix_ns // _NS, nanos=unix_ns % _NS)
