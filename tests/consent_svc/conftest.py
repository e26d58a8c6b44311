"""What the tests of the consent service share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consent_svc.categories import DEFAULT_CATEGORIES, parse_categories
from consent_svc.consents import Consents, Policy
from consent_svc.purpose import mask_of_names
from consent_svc.store import SqliteConsentStore
from mesh.clock import FixedClock
from tests.consent_svc.watched import WatchedStore

POLICY = Policy(essential=mask_of_names(["essential"]), categories=parse_categories(DEFAULT_CATEGORIES))


@pytest.fixture
def clock() -> FixedClock:
    """A clock that moves when told to."""
    return FixedClock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[WatchedStore]:
    """The real ledger in a file, behind a recorder of the calls that reach it."""
    opened = SqliteConsentStore.open(tmp_path / "consent.db")
    yield WatchedStore(opened)
    await opened.close()


@pytest.fixture
async def consents(store: WatchedStore, clock: FixedClock) -> Consents:
    """Consent over an empty ledger."""
    return await Consents.start(store, clock, POLICY, cache_size=1_000)
