"""What is read from a user agent."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrich_svc.client import ClientReader, Software, is_machine

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
MACINTOSH = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit"
KHTML = "AppleWebKit/537.36 (KHTML, like Gecko)"
APPLE = "like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
LINUX = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"

PEOPLE = [
    (f"{WINDOWS} Chrome/131.0.0.0 Safari/537.36", ("Chrome", "131.0", "Windows", "10", "")),
    (f"{WINDOWS} Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0", ("Edge", "131.0", "Windows", "10", "")),
    (f"{WINDOWS} Chrome/129.0.0.0 Safari/537.36 OPR/115.0.0.0", ("Opera", "115.0", "Windows", "10", "")),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0",
        ("Firefox", "132.0", "Windows", "10", ""),
    ),
    (
        f"{MACINTOSH}/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
        ("Safari", "18.1", "Mac OS X", "10.15", "Mac"),
    ),
    (f"{LINUX} Chrome/130.0.0.0 Safari/537.36", ("Chrome", "130.0", "Linux", "", "")),
    (
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0",
        ("Firefox", "115.0", "Ubuntu", "", ""),
    ),
    (
        f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1_1 {APPLE} Version/18.1.1 Mobile/15E148 Safari/604.1",
        ("Mobile Safari", "18.1", "iOS", "18.1", "iPhone"),
    ),
    (
        f"Mozilla/5.0 (iPad; CPU OS 17_6 {APPLE} CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1",
        ("Chrome Mobile iOS", "131.0", "iOS", "17.6", "iPad"),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 14; Pixel 8 Pro) {KHTML} Chrome/131.0.6778.81 Mobile Safari/537.36",
        ("Chrome Mobile", "131.0", "Android", "14", "Pixel 8 Pro"),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 13; SM-S918B) {KHTML} SamsungBrowser/26.0 Chrome/122.0.0.0 Mobile Safari/537.36",
        ("Samsung Internet", "26.0", "Android", "13", "Samsung SM-S918B"),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 9; CUBOT_NOTE_20) {KHTML} Chrome/90.0.4430.91 Mobile Safari/537.36",
        ("Chrome Mobile", "90.0", "Android", "9", "CUBOT_NOTE_20"),
    ),
    (
        f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {KHTML} Chrome/131.0.0.0 Safari/537.36",
        ("Chrome", "131.0", "Chrome OS", "14541.0", ""),
    ),
]


@pytest.mark.parametrize(("text", "expected"), PEOPLE)
def test_people(reader: ClientReader, text: str, expected: tuple[str, str, str, str, str]) -> None:
    """Browsers of people are told by product, major and minor version, system and device, and are no bots."""
    browser, browser_version, os, os_version, device = expected
    assert reader.read(text) == Software(browser, browser_version, os, os_version, device, bot=False)


MACHINES = [
    # search engines
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    f"{LINUX} Chrome/131.0.0.0 Safari/537.36 (compatible; Google-InspectionTool/1.0;)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)",
    "AdsBot-Google (+http://www.google.com/adsbot.html)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Screaming Frog SEO Spider/20.1",
    # language models
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Perplexity-User/1.0; +https://perplexity.ai)",
    f"Mozilla/5.0 (Linux; Android 5.0) {KHTML} Mobile Safari/537.36 (compatible; Bytespider)",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
    # previews
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Twitterbot/1.0",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "WhatsApp/2.23.20.0",
    "TelegramBot (like TwitterBot)",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    # monitors
    "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
    f"{LINUX} Chrome/126.0.0.0 Safari/537.36 DatadogSynthetics",
    "GoogleStackdriverMonitoring-UptimeChecks(https://cloud.google.com/monitoring)",
    f"{MACINTOSH}/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36 Chrome-Lighthouse",
    "kube-probe/1.29",
    "ELB-HealthChecker/2.0",
    # driven browsers
    f"{LINUX} HeadlessChrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 (KHTML, like Gecko) PhantomJS/2.1.1 Safari/538.1",
    "Mozilla/5.0 (linux) AppleWebKit/537.36 (KHTML, like Gecko) jsdom/22.1.0",
    # scripts
    "curl/8.10.1",
    "Wget/1.21.4",
    "python-requests/2.32.3",
    "Python-urllib/3.11",
    "python-httpx/0.28.1",
    "Go-http-client/2.0",
    "Java/17.0.9",
    "Apache-HttpClient/4.5.14 (Java/17.0.9)",
    "axios/1.7.9",
    "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
    "PostmanRuntime/7.43.0",
    "GuzzleHttp/7",
    "libwww-perl/6.68",
    "Scrapy/2.11.2 (+https://scrapy.org)",
    "k6/0.55.0 (https://k6.io/)",
]


@pytest.mark.parametrize("text", MACHINES)
def test_machines(reader: ClientReader, text: str) -> None:
    """Crawlers, those of language models, previews, monitors, driven browsers and scripts are bots without a device."""
    software = reader.read(text)
    assert software is not None
    assert software.bot
    assert software.device != "Spider"


NO_MACHINES = [
    "okhttp/4.12.0",
    "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/AP2A.240805.005)",
    "MyShop/3.2 CFNetwork/1568.200.51 Darwin/24.1.0",
    "analytics-python/2.4.0",
    "Dart/3.5 (dart:io)",
    f"Mozilla/5.0 (Linux; Android 10; CUBOT X30) {KHTML} Chrome/99.0 Mobile Safari/537.36",
    "Bottles/1.0",
]


@pytest.mark.parametrize("text", NO_MACHINES)
def test_libraries_inside_applications_are_no_machines(text: str) -> None:
    """What applications and backends send for people is not counted as a bot, nor is a name that only looks so."""
    assert not is_machine(text)


@pytest.mark.parametrize("text", ["", "  ", "x", "-", "analytics-python/2.4.0"])
def test_nothing_to_tell(reader: ClientReader, text: str) -> None:
    """A user agent that tells nothing gives nothing, rather than an empty client."""
    assert reader.read(text) is None


def test_a_hostile_user_agent_takes_no_time(reader: ClientReader) -> None:
    """Texts made to make regular expressions slow take no more than others, on average well below 2 ms."""
    hostile = ["Mozilla/5.0 (Linux; Android 4; " + "a" * 1900 + " Build/", "(" * 2048, "Android " * 256, "bot" * 682]
    hostile += ["Trident/Googlebot" * 120, "Darwin/Googlebot" * 128, "iPhone\U0001f600" * 204, "spider Linux " * 157]
    started = time.thread_time()
    for number in range(50):
        for text in hostile:
            reader.read(f"{number}{text}"[:2048])
    assert time.thread_time() - started < 2 * 50 * len(hostile) / 1000


def test_only_the_first_kibibyte_is_read(reader: ClientReader) -> None:
    """What stands beyond tells nothing, in any script, and half a character at the end does no harm."""
    for filler in ("x", "é", "\U0001f600"):
        room = (1024 - len(" Googlebot/2.1")) // len(filler.encode())
        within, beyond = f"{filler * room} Googlebot/2.1", f"{filler * (room + 1)} Googlebot/2.1"
        found = reader.read(within)
        assert found is not None
        assert found.bot
        assert reader.read(beyond) != found
        assert reader.read(f"{filler * 2048}") is None


@given(text=st.text(max_size=2048))
def test_never_raises_and_is_pure(text: str) -> None:
    """Any text is read without an error, and twice the same."""
    reader = _shared_reader()
    assert reader.read(text) == reader.read(text)


def _shared_reader(kept: list[ClientReader] = []) -> ClientReader:  # noqa: B006 - compiled once for all examples
    if not kept:
        kept.append(ClientReader())
    return kept[0]
