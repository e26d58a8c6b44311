"""Credentials: every way in which a client library can show a key or a token."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials import Credentials, read_credentials


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "write_key_header", "expected"),
    [
        (_basic("key:"), None, Credentials("key", "")),
        (_basic("key:password"), None, Credentials("key", "")),
        (_basic("key"), None, Credentials("key", "")),
        (_basic("key:").replace("Basic", "basic"), None, Credentials("key", "")),
        ("Bearer a.b.c", None, Credentials("", "a.b.c")),
        ("bearer  a.b.c ", "key", Credentials("key", "a.b.c")),
        (None, "key", Credentials("key", "")),
        ("Basic !!!", "key", Credentials("key", "")),
        ("Basic /w==", None, Credentials("", "")),
        ("Digest x", None, Credentials("", "")),
        ("", "", Credentials("", "")),
        (None, None, Credentials("", "")),
    ],
)
def test_credentials_are_read_from_the_headers(
    authorization: str | None, write_key_header: str | None, expected: Credentials
) -> None:
    """Basic carries the write key as user name, Bearer a token, X-Write-Key a key; what is malformed is absent."""
    assert read_credentials(authorization, write_key_header) == expected


def test_a_key_in_the_body_counts_only_where_no_header_gave_one() -> None:
    """What the headers say wins over the body, so that a proxy's check of them cannot be got around."""
    assert Credentials("header").or_write_key("body") == Credentials("header")
    assert Credentials("", "token").or_write_key("body") == Credentials("body", "token")


@given(st.text(), st.none() | st.text())
def test_no_header_breaks_the_reader(authorization: str, write_key_header: str | None) -> None:
    """Any text is read without an error."""
    read_credentials(authorization, write_key_header)
