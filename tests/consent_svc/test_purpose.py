"""Purposes as bits of a mask."""

import pytest

from clew.options.v1.privacy_pb2 import Purpose
from consent_svc.purpose import ALL, PURPOSE_NUMBERS, PURPOSES, mask_of, mask_of_names, numbers_of


def test_purposes_are_those_of_the_contract() -> None:
    """Every purpose of the contract but UNSPECIFIED is known by its name and number, and no other."""
    contract = {name.removeprefix("PURPOSE_").lower(): number for name, number in Purpose.items() if number}
    assert contract == PURPOSE_NUMBERS


def test_a_mask_gives_back_the_purposes_it_was_made_of() -> None:
    """Purposes go into a mask in any order and come out ascending."""
    assert numbers_of(mask_of([5, 1, 3])) == (1, 3, 5)
    assert numbers_of(ALL) == PURPOSES
    assert numbers_of(0) == ()


def test_names_are_read_without_regard_to_case_and_spaces() -> None:
    """An operator may write a purpose as they like."""
    assert mask_of_names([" Analytics", "MARKETING "]) == mask_of([2, 4])


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    """The message tells what could have been written."""
    with pytest.raises(ValueError, match=r"'analitics' is no purpose; the purposes are essential, analytics"):
        mask_of_names(["analitics"])


@pytest.mark.parametrize("number", [0, 6, -1])
def test_an_unknown_number_is_refused(number: int) -> None:
    """A number that no purpose has cannot become a bit that nothing reads."""
    with pytest.raises(ValueError, match="is no purpose"):
        mask_of([number])
