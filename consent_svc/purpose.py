"""The purposes that consent is given for, as bits of a mask: one decision is then a few integer operations."""

from collections.abc import Iterable

# The numbers are those of `clew.options.v1.Purpose`; a test compares the two.
PURPOSE_NUMBERS = {"essential": 1, "analytics": 2, "personalization": 3, "marketing": 4, "advertising": 5}

# In ascending order; position i of a standing's choices belongs to purpose PURPOSES[i].
PURPOSES = tuple(sorted(PURPOSE_NUMBERS.values()))

NONE = 0
ALL = sum(1 << number for number in PURPOSES)


def mask_of(numbers: Iterable[int]) -> int:
    """Return the mask of some purposes.

    Raises:
        ValueError: a number is not a purpose's.
    """
    mask = NONE
    for number in numbers:
        if number not in PURPOSES:
            raise ValueError(f"{number} is no purpose")
        mask |= 1 << number
    return mask


def mask_of_names(names: Iterable[str]) -> int:
    """Return the mask of purposes by their names, in any case, with spaces around them ignored.

    Raises:
        ValueError: a name is not a purpose's; the message lists those that are.
    """
    mask = NONE
    for name in names:
        number = PURPOSE_NUMBERS.get(name.strip().casefold())
        if number is None:
            raise ValueError(f"'{name.strip()}' is no purpose; the purposes are {', '.join(PURPOSE_NUMBERS)}")
        mask |= 1 << number
    return mask


def numbers_of(mask: int) -> tuple[int, ...]:
    """Return the purposes of a mask, ascending."""
    return tuple(number for number in PURPOSES if mask >> number & 1)
