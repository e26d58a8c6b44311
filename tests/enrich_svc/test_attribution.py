"""What led a visitor here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrich_svc.attribution import KINDS, Campaign, Origin, Referral, attribute, host_of, read_campaign
from enrich_svc.referrers import ASSISTANT, MAIL, SEARCH, SOCIAL

PAGE = "https://shop.example/pricing"


@pytest.mark.parametrize(
    ("referrer", "host", "kind"),
    [
        ("https://www.google.com/", "google.com", Referral.SEARCH),
        ("https://www.google.co.uk/search?q=x", "google.co.uk", Referral.SEARCH),
        ("https://google.de", "google.de", Referral.SEARCH),
        ("https://m.yandex.com.tr/", "m.yandex.com.tr", Referral.SEARCH),
        ("https://de.search.yahoo.com/search", "de.search.yahoo.com", Referral.SEARCH),
        ("https://duckduckgo.com/", "duckduckgo.com", Referral.SEARCH),
        ("https://www.bing.com/search?q=y", "bing.com", Referral.SEARCH),
        (
            "android-app://com.google.android.googlequicksearchbox/",
            "com.google.android.googlequicksearchbox",
            Referral.SEARCH,
        ),
        ("https://docs.google.com/document/d/1", "docs.google.com", Referral.OTHER),
        ("https://google.evil.example/", "google.evil.example", Referral.OTHER),
        ("https://notgoogle.com/", "notgoogle.com", Referral.OTHER),
        ("https://t.co/abc", "t.co", Referral.SOCIAL),
        ("https://l.facebook.com/l.php?u=x", "l.facebook.com", Referral.SOCIAL),
        ("https://www.linkedin.com/feed/", "linkedin.com", Referral.SOCIAL),
        ("https://old.reddit.com/r/python", "old.reddit.com", Referral.SOCIAL),
        ("https://news.ycombinator.com/item?id=1", "news.ycombinator.com", Referral.SOCIAL),
        ("android-app://com.linkedin.android", "com.linkedin.android", Referral.SOCIAL),
        ("https://mail.google.com/mail/u/0/", "mail.google.com", Referral.MAIL),
        ("https://outlook.live.com/", "outlook.live.com", Referral.MAIL),
        ("android-app://com.google.android.gm/", "com.google.android.gm", Referral.MAIL),
        ("https://chatgpt.com/", "chatgpt.com", Referral.ASSISTANT),
        ("https://chat.openai.com/c/1", "chat.openai.com", Referral.ASSISTANT),
        ("https://claude.ai/chat/1", "claude.ai", Referral.ASSISTANT),
        ("https://www.perplexity.ai/", "perplexity.ai", Referral.ASSISTANT),
        ("https://gemini.google.com/app", "gemini.google.com", Referral.ASSISTANT),
        ("https://partner.example:8443/blog?x=1", "partner.example", Referral.OTHER),
        ("HTTPS://WWW.Partner.Example./", "partner.example", Referral.OTHER),
    ],
)
def test_kinds_of_referrers(referrer: str, host: str, kind: Referral) -> None:
    """The page before is classified by its host alone, and kept without `www.`, port, path and query."""
    assert attribute(PAGE, referrer) == Origin(Campaign(), host, kind)


@pytest.mark.parametrize(
    "referrer",
    [
        "https://shop.example/cart",
        "https://www.shop.example/",
        "http://blog.shop.example/post",
        "https://SHOP.example/",
    ],
)
def test_a_page_of_the_same_site_is_internal(referrer: str) -> None:
    """The same host with or without `www.`, or a subdomain of it, is the same site, and adds no host."""
    assert attribute(PAGE, referrer) == Origin(Campaign(), "", Referral.INTERNAL)


def test_a_search_engines_own_pages_are_internal_to_it() -> None:
    """The site's own rule goes before the tables."""
    origin = attribute("https://www.bing.com/a", "https://www.bing.com/b")
    assert origin is not None
    assert origin.referral is Referral.INTERNAL


def test_no_page_before_is_direct() -> None:
    """A page without a referrer was typed, bookmarked or stripped."""
    assert attribute(PAGE, "") == Origin(Campaign(), "", Referral.DIRECT)


@pytest.mark.parametrize(
    ("page", "referrer"),
    [("", ""), ("not a url", ""), ("/relative", " "), ("http://[", ""), ("", "about:blank"), ("file:///tmp/x", "")],
)
def test_nothing_to_tell(page: str, referrer: str) -> None:
    """Where neither URL can be read there is no attribution at all."""
    assert attribute(page, referrer) is None


@pytest.mark.parametrize("referrer", ["about:blank", "http://[::1", "nonsense", "data:text/html,x", "https://"])
def test_a_referrer_that_cannot_be_read_is_not_direct(referrer: str) -> None:
    """There was a page before, so that the visit is not called direct."""
    assert attribute(PAGE, referrer) is None
    origin = attribute(PAGE + "?utm_source=a", referrer)
    assert origin == Origin(Campaign(source="a"), "", Referral.UNSPECIFIED)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            f"{PAGE}?utm_source=news&utm_medium=email&utm_campaign=spring+sale&utm_term=red%20shoes&utm_content=top",
            Campaign("news", "email", "spring sale", "red shoes", "top"),
        ),
        (f"{PAGE}?UTM_Source=News&id=1", Campaign(source="News")),
        (f"{PAGE}?utm_source=&utm_source=second&utm_source=third", Campaign(source="second")),
        (f"{PAGE}?utm_source=%C3%BCber&utm_medium=%FF", Campaign(source="über", medium="�")),
        (f"{PAGE}?x=utm_source", Campaign()),
        (f"{PAGE}#utm_source=fragment", Campaign()),
        (f"{PAGE}?{'&'.join(['a=1'] * 300)}&utm_source=x", Campaign()),
        ("/relative?utm_campaign=c", Campaign(campaign="c")),
    ],
)
def test_campaigns(url: str, expected: Campaign) -> None:
    """The five parameters are decoded as forms are; the first that is not empty wins; fragments hold none."""
    assert read_campaign(url) == expected


def test_a_campaign_without_a_readable_host_still_counts() -> None:
    """An application may send a relative URL."""
    assert attribute("/p?utm_source=a", "") == Origin(Campaign(source="a"), "", Referral.UNSPECIFIED)


def test_the_tables_name_each_domain_once() -> None:
    """Tables hold bare lower-case hosts without `www.`, and no host has two kinds."""
    domains = (*SEARCH, *SOCIAL, *MAIL, *ASSISTANT)
    assert len(KINDS) == len(domains)
    assert [domain for domain in domains if domain != domain.lower() or domain.startswith("www.")] == []


@given(url=st.text(max_size=300), referrer=st.text(max_size=300))
def test_never_raises_and_is_pure(url: str, referrer: str) -> None:
    """Any two texts are read without an error, and twice the same."""
    assert attribute(url, referrer) == attribute(url, referrer)


@given(rest=st.text(max_size=200), scheme=st.sampled_from(["http://", "https://", "android-app://", "https://[", "//"]))
def test_hosts_of_broken_urls(rest: str, scheme: str) -> None:
    """Whatever stands after a scheme, a host comes out bare or not at all."""
    host = host_of(scheme + rest)
    assert "/" not in host
    assert "?" not in host
