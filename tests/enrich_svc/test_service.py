"""The service over gRPC, and its memory."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.enrich.v1 import enrich_service_pb2 as service
from clew.enrich.v1 import enrichment_pb2 as enrichment
from enrich_svc.enrichment import KINDS, REMEMBERED_CHARACTERS, Enricher
from enrich_svc.service import ITEMS_PER_TURN, EnrichServicer

QUERY = service.EnrichmentQuery(
    user_agent="Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    ip="8.8.8.8",
    page_url="https://shop.example/?utm_source=news",
    page_referrer="https://www.google.com/",
    locale="pt-BR",
)

EXPECTED = enrichment.Enrichment(
    client=enrichment.Client(browser="Chrome", browser_version="131.0", os="Windows", os_version="10"),
    attribution=enrichment.Attribution(
        source="news", referrer_host="google.com", referrer_kind=enrichment.REFERRER_KIND_SEARCH
    ),
    locale=enrichment.Locale(language="pt", region="BR"),
    geo=enrichment.Geo(country="US", truncated_ip="8.8.8.0"),
)


def test_a_batch_is_answered_by_index(grpc_stub: Any) -> None:
    """Result i answers item i; an item that tells nothing has an empty result; each part is absent on its own."""
    items = [QUERY, service.EnrichmentQuery(), service.EnrichmentQuery(locale="nl"), QUERY]
    response = grpc_stub.BatchEnrichEvents(service.BatchEnrichEventsRequest(items=items), timeout=10)
    assert list(response.results) == [
        EXPECTED,
        enrichment.Enrichment(),
        enrichment.Enrichment(locale=enrichment.Locale(language="nl")),
        EXPECTED,
    ]


def test_the_largest_batch(grpc_stub: Any) -> None:
    """2,500 items, the contract's maximum, are answered in order over several turns."""
    items = [service.EnrichmentQuery(ip=f"8.8.{i // 250}.7") for i in range(2500)]
    response = grpc_stub.BatchEnrichEvents(service.BatchEnrichEventsRequest(items=items), timeout=10)
    assert [result.geo.truncated_ip for result in response.results] == [f"8.8.{i // 250}.0" for i in range(2500)]


async def test_other_work_gets_its_turn(enricher: Enricher) -> None:
    """A large batch lets the event loop go on: health checks are not kept waiting until its end."""
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    watcher = asyncio.create_task(watch())
    request = service.BatchEnrichEventsRequest(items=[QUERY] * (4 * ITEMS_PER_TURN))
    await EnrichServicer(enricher).BatchEnrichEvents(request, None)  # type: ignore[arg-type]
    watcher.cancel()
    # The first turn starts the watcher, the two others let it count.
    assert turns >= 2


def test_a_remembered_input_is_not_derived_again() -> None:
    """The inputs used last are remembered, the oldest forgotten and long ones never kept: memory is bounded."""
    asked: list[str] = []
    enricher = Enricher(asked.append, lambda _: None, cache_entries=2)
    long = "x" * (REMEMBERED_CHARACTERS + 1)
    for text in ["a", "b", "a", "c", "a", "b", long, long]:
        enricher.enrich(service.EnrichmentQuery(user_agent=text))
    assert asked == ["a", "b", "c", "b", long, long]


@given(
    user_agent=st.text(max_size=100), ip=st.text(max_size=45), url=st.text(max_size=100), locale=st.text(max_size=20)
)
def test_never_raises_and_is_pure(user_agent: str, ip: str, url: str, locale: str) -> None:
    """Any query gives one valid enrichment, and gives it again."""
    query = service.EnrichmentQuery(user_agent=user_agent, ip=ip, page_url=url, page_referrer=url, locale=locale)
    enricher = Enricher(lambda _: None, lambda _: None, cache_entries=1)
    encoded = enricher.enrich(query)
    assert enricher.enrich(query) == encoded
    assert enrichment.Enrichment.FromString(encoded).SerializeToString() == encoded


@pytest.mark.parametrize("kind", enrichment.ReferrerKind.values())
def test_every_kind_of_the_contract_is_reachable(kind: int) -> None:
    """The rules know each kind of referrer that the contract names, no more and no fewer."""
    assert [int(value) for value in KINDS.values()].count(kind) == 1
