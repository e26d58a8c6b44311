"""What led a visitor here: the campaign in the page's URL, and the kind of site that the page before was on."""

from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl, urlsplit

from enrich_svc import referrers


class Referral(Enum):
    """The kind of site that referred a visitor; the names are those of the contract's `ReferrerKind`."""

    UNSPECIFIED = "nothing to tell it from"
    DIRECT = "no page before"
    INTERNAL = "the same site"
    SEARCH = "a search engine"
    SOCIAL = "a social network"
    MAIL = "a mail client"
    ASSISTANT = "an assistant"
    OTHER = "any other site"


@dataclass(frozen=True, slots=True)
class Campaign:
    """The five `utm_` parameters as sent, each empty when absent."""

    source: str = ""
    medium: str = ""
    campaign: str = ""
    term: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """A campaign and what referred the visitor; the host is empty when there was none or it is the same site."""

    campaign: Campaign
    referrer_host: str
    referral: Referral


NO_CAMPAIGN = Campaign()
PARAMETERS = {f"utm_{name}": name for name in ("source", "medium", "campaign", "term", "content")}

# A query holds at most 8,192 characters; nobody's campaign needs more fields than this, and each costs time.
MAX_QUERY_FIELDS = 256

KINDS = {
    domain: kind
    for kind, domains in (
        (Referral.SEARCH, referrers.SEARCH),
        (Referral.SOCIAL, referrers.SOCIAL),
        (Referral.MAIL, referrers.MAIL),
        (Referral.ASSISTANT, referrers.ASSISTANT),
    )
    for domain in domains
}

# Hosts under which the search engines of every country answer, beside the bare domain.
SEARCH_LABELS = frozenset({"m", "search"})
SECOND_LEVEL = frozenset({"co", "com"})


def attribute(page_url: str, page_referrer: str) -> Origin | None:
    """Derive what led to a page; None when neither URL tells anything."""
    campaign = read_campaign(page_url)
    page_host = host_of(page_url)
    host, referral = refer(page_host, page_referrer)
    if campaign is NO_CAMPAIGN and referral is Referral.UNSPECIFIED:
        return None
    return Origin(campaign, host, referral)


def refer(page_host: str, page_referrer: str) -> tuple[str, Referral]:
    """Classify the page before by its host; one that cannot be read tells nothing, not even that there was none."""
    if not page_referrer.strip():
        return "", Referral.DIRECT if page_host else Referral.UNSPECIFIED
    host = host_of(page_referrer)
    if not host:
        return "", Referral.UNSPECIFIED
    if page_host and same_site(page_host, host):
        return "", Referral.INTERNAL
    return host, kind_of(host)


def read_campaign(url: str) -> Campaign:
    """Read the `utm_` parameters; names in any case, the first that is not empty wins."""
    # Most URLs carry no campaign: one search instead of parsing.
    if "utm_" not in url.lower():
        return NO_CAMPAIGN
    query = url.partition("#")[0].partition("?")[2]
    try:
        pairs = parse_qsl(query, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        return NO_CAMPAIGN
    found: dict[str, str] = {}
    for key, value in pairs:
        name = PARAMETERS.get(key.strip().lower())
        if name and value.strip():
            found.setdefault(name, value.strip())
    return Campaign(**found) if found else NO_CAMPAIGN


def host_of(url: str) -> str:
    """Return a URL's host, or an Android referrer's package, in lower case without `www.`; empty when there is none."""
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname or ""
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https", "android-app"}:
        return ""
    return host.rstrip(".").removeprefix("www.")


def same_site(one: str, other: str) -> bool:
    """Tell whether hosts are one site: equal, or one under another; two subdomains of one domain are two sites."""
    return one == other or one.endswith("." + other) or other.endswith("." + one)


def kind_of(host: str) -> Referral:
    """Look a host up in the tables, the longest domain first."""
    labels = host.split(".")
    for start in range(len(labels)):
        kind = KINDS.get(".".join(labels[start:]))
        if kind is not None:
            return kind
    return Referral.SEARCH if searches_in_a_country(labels) else Referral.OTHER


def searches_in_a_country(labels: list[str]) -> bool:
    """Tell `google.de`, `google.co.uk` and `m.yandex.com.tr` from other services of the same companies."""
    if labels[0] in SEARCH_LABELS:
        labels = labels[1:]
    if not labels or labels[0] not in referrers.SEARCH_IN_EVERY_COUNTRY:
        return False
    match labels[1:]:
        case [top]:
            return len(top) == 2 or top in SECOND_LEVEL
        case [second, top]:
            return second in SECOND_LEVEL and len(top) == 2
        case _:
            return False
