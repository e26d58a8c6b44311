"""Derived facts as the contract's messages, each remembered by the text that it was derived from."""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from clew.enrich.v1 import enrich_service_pb2, enrichment_pb2
from enrich_svc.attribution import Origin, Referral, attribute
from enrich_svc.client import Software
from enrich_svc.geo import Place
from enrich_svc.locale import Language, read_locale

T = TypeVar("T")

KINDS = {referral: enrichment_pb2.ReferrerKind.Value(f"REFERRER_KIND_{referral.name}") for referral in Referral}

# Longer texts hardly repeat; not keeping them bounds the memory by entries x characters whatever clients send.
REMEMBERED_CHARACTERS = 1024


class Enricher:
    """Derives enrichments; pure but for its memory of the inputs seen last, `cache_entries` of each kind.

    A visitor repeats user agent, address and locale with every event, and a site its pages. Each part is remembered as
    an encoded `Enrichment` that holds only it: joined encodings are the encoding of the merged message, and putting
    four together takes 0.9 us against 2.1 from message objects.
    """

    def __init__(
        self,
        read_client: Callable[[str], Software | None],
        locate: Callable[[str], Place | None],
        cache_entries: int,
    ) -> None:
        self._client = _remember(lambda text: _encode_client(read_client(text)), cache_entries)
        self._geo = _remember(lambda text: _encode_geo(locate(text)), cache_entries)
        self._locale = _remember(lambda text: _encode_locale(read_locale(text)), cache_entries)
        self._attribution = _remember_pair(lambda url, before: _encode_origin(attribute(url, before)), cache_entries)

    def enrich(self, query: enrich_service_pb2.EnrichmentQuery) -> bytes:
        """Derive all that a query tells, as an encoded `Enrichment`; a part is absent when nothing tells of it."""
        return (
            self._client(query.user_agent)
            + self._attribution(query.page_url, query.page_referrer)
            + self._locale(query.locale)
            + self._geo(query.ip)
        )


def _remember(derive: Callable[[str], T], entries: int) -> Callable[[str], T]:
    kept = lru_cache(maxsize=entries)(derive)
    return lambda text: kept(text) if len(text) <= REMEMBERED_CHARACTERS else derive(text)


def _remember_pair(derive: Callable[[str, str], T], entries: int) -> Callable[[str, str], T]:
    kept = lru_cache(maxsize=entries)(derive)
    return lambda one, two: kept(one, two) if len(one) + len(two) <= REMEMBERED_CHARACTERS else derive(one, two)


def _encode_client(software: Software | None) -> bytes:
    if software is None:
        return b""
    client = enrichment_pb2.Client(
        browser=software.browser,
        browser_version=software.browser_version,
        os=software.os,
        os_version=software.os_version,
        device=software.device,
        bot=software.bot,
    )
    return enrichment_pb2.Enrichment(client=client).SerializeToString()


def _encode_origin(origin: Origin | None) -> bytes:
    if origin is None:
        return b""
    campaign = origin.campaign
    attribution = enrichment_pb2.Attribution(
        source=campaign.source,
        medium=campaign.medium,
        campaign=campaign.campaign,
        term=campaign.term,
        content=campaign.content,
        referrer_host=origin.referrer_host,
        referrer_kind=KINDS[origin.referral],
    )
    return enrichment_pb2.Enrichment(attribution=attribution).SerializeToString()


def _encode_locale(language: Language | None) -> bytes:
    if language is None:
        return b""
    locale = enrichment_pb2.Locale(language=language.language, region=language.region)
    return enrichment_pb2.Enrichment(locale=locale).SerializeToString()


def _encode_geo(place: Place | None) -> bytes:
    if place is None:
        return b""
    geo = enrichment_pb2.Geo(country=place.country, truncated_ip=place.truncated_ip)
    return enrichment_pb2.Enrichment(geo=geo).SerializeToString()
