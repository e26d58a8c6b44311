"""No credential is kept with a refused event."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decode.scrub import find_message_id, find_write_key, scrub

TOKEN = b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "text",
    [
        b"%s",
        b'{"context":{"identityToken":"%s"}}',
        b'{"a":"Bearer %s"}',
        b'{"a":"Bearer\\n%s\\n"}',
        b"{'a': %s}",
        b'{"url":"https://host.example.com/?t=%s&x=1"}',
        b"hostname1.%s",
        b"a.b.c %s d.e.f",
        b"%s.extra.parts",
    ],
)
def test_token_shaped_text_is_blanked_in_place(text: bytes) -> None:
    """A JWT anywhere in a text becomes asterisks of the same length; the rest stays."""
    scrubbed = scrub(text % TOKEN)
    assert len(scrubbed) == len(text % TOKEN)
    assert TOKEN.split(b".")[0] not in scrubbed
    assert TOKEN.split(b".")[2] not in scrubbed
    assert scrubbed.startswith(text.partition(b"%s")[0])


@pytest.mark.parametrize("key", [b"identityToken", b"writeKey"])
@pytest.mark.parametrize("secret", [b"s3cret", b's3cret\\"more', b"s3cret unfinished\\"])
def test_credentials_are_blanked_by_key(key: bytes, secret: bytes) -> None:
    """What a credential's key names is blanked whatever its shape, an unfinished string to its end."""
    assert b"s3cret" not in scrub(b'{"a":1, "%s" : "%s","b":2}' % (key, secret))


@pytest.mark.parametrize(
    "text", [b"www.example.com", b"1.2.3", b"eyJ", b"eyJhbGci", b"key.eyJhbGci", b'{"a":"eyJhbGci.x"}']
)
def test_other_text_stays(text: bytes) -> None:
    """Host names, numbers and halves of a token are no tokens."""
    assert scrub(text) == text


@given(st.binary(max_size=200))
def test_length_stays(text: bytes) -> None:
    """Positions in the detail fit the payload, since nothing moves."""
    assert len(scrub(text)) == len(text)


def test_hostile_text_costs_linear_time() -> None:
    """Megabytes of token beginnings are scrubbed in well under a second."""
    for text in (b"eyJ" * 1_000_000, b"eyJ." * 1_000_000, b'"identityToken":"' * 200_000, b'"messageId":"' * 200_000):
        assert len(scrub(text)) == 524_288
        assert find_message_id(text) == ""


def test_ids_are_found_in_broken_text() -> None:
    """Message id and write key are found where JSON cannot be parsed, and only when they are plain."""
    broken = b'{"messageId" : "m-1", "writeKey":"wk", oops'
    assert (find_message_id(broken), find_write_key(broken)) == ("m-1", "wk")
    assert find_message_id(b'{"messageId":"%s"}' % (b"m" * 101)) == ""
    nested = b'{"properties":{"messageId":"p","writeKey":"p"}'
    assert find_message_id(nested + b"}") == find_write_key(nested + b"}") == ""
    assert find_message_id(nested + b',"messageId":"m-2"}') == "m-2"
    assert find_message_id(b'{"messageId":"\xff"}') == find_message_id(b'{"messageId":"a\\u0000"}') == ""
