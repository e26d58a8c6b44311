"""What is kept of text that was refused: no credential, no more than the limit, and the id where it can be found."""

import re
from typing import Final

import msgspec

from gateway.decode.text import MEMBERS
from gateway.decode.types import MAX_MESSAGE_ID_CHARS, MAX_PAYLOAD_BYTES

# Runs of base64url joined by dots (RFC 7519: two dots, RFC 7516: four). A chain is matched from its beginning only, so
# that hostile text costs linear time; where a token begins within the chain is looked up afterwards.
_DOTTED_CHAIN = re.compile(rb"(?<![\w-])[\w-]++(?:\.[\w-]*+){2,}+", re.ASCII)
_TOKEN_BEGIN: Final = b"eyJ"  # base64url of `{"`
# Credentials by key, whatever their shape; an unfinished string counts to its end.
_CREDENTIAL = re.compile(rb'("(?:identityToken|writeKey)"\s*+:\s*+")((?>(?:[^"\\]++|\\.)*))', re.DOTALL)
_MESSAGE_ID = re.compile(rb'"messageId"\s*+:\s*+"([^"\\\x00-\x1f]{1,400}+)"')
_WRITE_KEY = re.compile(rb'"writeKey"\s*+:\s*+"([^"\\\x00-\x1f]{1,400}+)"')


def scrub(text: bytes) -> bytes:
    """Overwrite credentials with asterisks, same length, and keep at most 512 KB.

    The length stays, so that byte positions in the detail still fit and a serialized message can still be parsed.
    """
    if b"." in text and _TOKEN_BEGIN in text:
        text = _DOTTED_CHAIN.sub(_blank_token, text)
    return _CREDENTIAL.sub(_blank_credential, text)[:MAX_PAYLOAD_BYTES]


def find_message_id(text: bytes) -> str:
    """Find the message id of an event that was refused; empty when there is none that keeps the rules."""
    found = _find("messageId", _MESSAGE_ID, text)
    return found if len(found) <= MAX_MESSAGE_ID_CHARS and "\0" not in found else ""


def find_write_key(text: bytes) -> str:
    """Find the write key in a lone event, good or bad; empty when there is none."""
    return _find("writeKey", _WRITE_KEY, text) if b"writeKey" in text else ""


def _find(key: str, pattern: re.Pattern[bytes], text: bytes) -> str:
    """The member of an object, or, where the object cannot be split into its members, the first that looks like it."""
    try:
        found = MEMBERS.decode(text).get(key)
        return "" if found is None else _as_text(bytes(found))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        match = pattern.search(text)
        return "" if match is None else _as_text(b'"%s"' % match[1])


def _as_text(literal: bytes) -> str:
    try:
        return msgspec.json.decode(literal, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _blank_token(match: re.Match[bytes]) -> bytes:
    chain = match[0]
    begin = chain.find(_TOKEN_BEGIN)
    if begin < 0 or chain.count(b".", begin) < 2:
        return chain
    return chain[:begin] + b"*" * (len(chain) - begin)


def _blank_credential(match: re.Match[bytes]) -> bytes:
    return match[1] + b"*" * len(match[2])
