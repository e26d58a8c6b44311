"""Page tokens."""

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent_svc.errors import PageTokenRefused
from consent_svc.paging import _check, before_epoch_of, page_token


@given(st.text(min_size=1, max_size=64), st.text(min_size=1, max_size=64), st.integers(1, 2**63 - 1))
def test_a_token_continues_where_it_was_issued(workspace: str, subject: str, epoch: int) -> None:
    """A token gives its epoch back to the history that it was made for, and is short enough for the contract."""
    token = page_token(workspace, subject, epoch)
    assert before_epoch_of(token, workspace, subject) == epoch
    assert len(token) <= 64


def test_no_token_asks_for_the_first_page() -> None:
    """The empty token is the beginning."""
    assert before_epoch_of("", "w", "p") is None


@pytest.mark.parametrize(("workspace", "subject"), [("w", "q"), ("v", "p"), ("wp", ""), ("", "wp")])
def test_a_token_of_another_history_is_refused(workspace: str, subject: str) -> None:
    """A token that was issued for somebody else's history names the wrong place in this one."""
    with pytest.raises(PageTokenRefused, match="not issued for this history"):
        before_epoch_of(page_token("w", "p", 7), workspace, subject)


@pytest.mark.parametrize("token", ["x", "AAAA", "7", "!" * 23, "é", "A" * 64, page_token("w", "p", 7) + "AAAA"])
def test_what_is_no_token_is_refused(token: str) -> None:
    """A caller that makes tokens up is told so."""
    with pytest.raises(PageTokenRefused, match="is no page token") as refusal:
        before_epoch_of(token, "w", "p")
    assert refusal.value.metadata["field"] == "page_token"


@given(st.integers(0, 22), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
def test_an_altered_token_is_refused(position: int, letter: str) -> None:
    """No single letter can be changed without notice."""
    token = page_token("w", "p", 7)
    altered = token[:position] + letter + token[position + 1 :]
    if altered != token:
        with pytest.raises(PageTokenRefused):
            before_epoch_of(altered, "w", "p")


def test_no_token_leads_beyond_what_a_ledger_can_hold() -> None:
    """A token made up for an epoch of more than 63 bits is refused like any other that was not issued."""
    raw = struct.pack(">BQ8s", 1, 2**64 - 1, _check("w", "p", 2**64 - 1))
    with pytest.raises(PageTokenRefused):
        before_epoch_of(base64.urlsafe_b64encode(raw).decode().rstrip("="), "w", "p")
