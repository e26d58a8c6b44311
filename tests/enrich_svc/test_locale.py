"""A language tag taken apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrich_svc.locale import Language, read_locale


@pytest.mark.parametrize(
    ("text", "language", "region"),
    [
        ("en", "en", ""),
        ("en-US", "en", "US"),
        ("pt-br", "pt", "BR"),
        ("PT_BR", "pt", "BR"),
        ("en_US.UTF-8", "en", "US"),
        ("ca_ES@valencia", "ca", "ES"),
        ("en-US,en;q=0.9", "en", "US"),
        (" nl-NL ", "nl", "NL"),
        ("zh-Hant-TW", "zh", "TW"),
        ("zh-Hans", "zh", ""),
        ("zh-yue-HK", "zh", "HK"),
        ("es-419", "es", "419"),
        ("sl-rozaj-biske", "sl", ""),
        ("de-CH-1996", "de", "CH"),
        ("en-US-u-hc-h12", "en", "US"),
        ("en-x-twain", "en", ""),
        ("fil-PH", "fil", "PH"),
        ("iw-IL", "he", "IL"),
        ("in_ID", "id", "ID"),
    ],
)
def test_tags(text: str, language: str, region: str) -> None:
    """Tags of BCP 47, POSIX locales and the first of a list are read; withdrawn codes become their replacements."""
    assert read_locale(text) == Language(language, region)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "C",
        "POSIX",
        "default",
        "x-private",
        "i-klingon",
        "und",
        "und-US",
        "mul",
        "e",
        "en--US",
        "en-",
        "12-US",
        "日本語",
        "e\u017f",
    ],
)
def test_no_language(text: str) -> None:
    """What names no language gives nothing."""
    assert read_locale(text) is None


@given(text=st.text(max_size=64))
def test_never_raises_and_is_pure(text: str) -> None:
    """Any text is read without an error, twice the same, and into ASCII subtags of the right case."""
    found = read_locale(text)
    assert found == read_locale(text)
    if found is not None:
        assert found.language.isascii()
        assert found.language.islower()
        assert found.region == found.region.upper()
