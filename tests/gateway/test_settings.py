"""Settings: whatever is wrong is said at start, by the name of its variable, and not at the first request."""

import pytest

from gateway.settings import GatewaySettings
from gateway.sources import SourceLimits
from mesh.server import ServerSettings
from mesh.settings import SettingsError, read_settings

GOOD = {
    "CLEW_IDENTITY": "identity.internal:50051",
    "CLEW_CONSENT": "127.0.0.1:50052",
    "CLEW_ENRICH": "[::1]:50053",
    "CLEW_SOURCES_FILE": "/etc/clew/sources.json",
}


def test_four_variables_are_enough() -> None:
    """The services and the sources: all else has a default that works on one machine."""
    settings = read_settings(GatewaySettings, GOOD)
    assert (settings.http_host, settings.http_port, settings.request_seconds) == ("127.0.0.1", 0, 9.5)


@pytest.mark.parametrize(
    ("rate", "burst", "limits"),
    [("", "", None), ("1000", "", SourceLimits(1000, 2000)), ("0.1", "", SourceLimits(0.1, 1)),
     ("50", "7", SourceLimits(50, 7))],
)  # fmt: skip
def test_a_rate_for_all_sources(rate: str, burst: str, limits: SourceLimits | None) -> None:
    """None unless set; the burst is two seconds' worth unless it is set too."""
    environ = {**GOOD, "CLEW_EVENTS_PER_SECOND": rate, "CLEW_EVENTS_BURST": burst}
    assert read_settings(GatewaySettings, environ).default_limits == limits


@pytest.mark.parametrize("url", ["https://events.example", "http://localhost:8080", "https://x.example/collect", ""])
def test_public_urls_that_browsers_can_be_sent_to(url: str) -> None:
    """With or without port and path; none means: as each request addressed it."""
    assert read_settings(GatewaySettings, {**GOOD, "CLEW_PUBLIC_URL": url}).public_url == url


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLEW_IDENTITY", ""),
        ("CLEW_IDENTITY", "identity"),
        ("CLEW_CONSENT", ":50052"),
        ("CLEW_ENRICH", "host:port"),
        ("CLEW_HTTP_PORT", "http"),
        ("CLEW_HTTP_PORT", "-1"),
        ("CLEW_HTTP_PORT", "65536"),
        ("CLEW_PUBLIC_URL", "events.example"),
        ("CLEW_PUBLIC_URL", "ftp://events.example"),
        ("CLEW_PUBLIC_URL", 'https://x"><script>'),
        ("CLEW_REQUEST_SECONDS", "0"),
        ("CLEW_REQUEST_SECONDS", "-1"),
        ("CLEW_REQUEST_SECONDS", "1e9"),
        ("CLEW_REQUEST_SECONDS", "nan"),
        ("CLEW_TRUST_FORWARDED", "maybe"),
        ("CLEW_EVENTS_PER_SECOND", "-1"),
        ("CLEW_ENRICH", "127.0.0.1:99999"),
        ("CLEW_EVENTS_PER_SECOND", "2000000"),
        ("CLEW_EVENTS_BURST", "5"),
        ("CLEW_EVENTS_BURST", "-5"),
        ("CLEW_TARGET_SECONDS", "0"),
        ("CLEW_TARGET_SECONDS", "60"),
        ("CLEW_HTTP_HEAD_SECONDS", "0"),
        ("CLEW_HTTP_BODY_SECONDS", "16"),
    ],
)
def test_a_wrong_value_is_refused_by_its_variables_name(variable: str, value: str) -> None:
    """One line that says which variable, and what is wrong with it."""
    with pytest.raises(SettingsError) as caught:
        read_settings(GatewaySettings, {**GOOD, variable: value})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{variable}: ")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CLEW_DRAIN_SECONDS", "-5"), ("CLEW_DRAIN_SECONDS", "1e6"), ("CLEW_MAX_CONCURRENT_RPCS", "0")],
)
def test_a_server_that_could_not_work_is_refused(variable: str, value: str) -> None:
    """What every process shares is checked in the same way."""
    with pytest.raises(SettingsError, match=variable):
        read_settings(ServerSettings, {variable: value})
