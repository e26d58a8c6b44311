"""What the consent service refuses."""

from mesh.errors import InvalidArgument


class DecideTimeRefused(InvalidArgument):
    """Raised when a choice is said to have been made in the future, or at a time that no ledger can hold."""


class PageTokenRefused(InvalidArgument):
    """Raised when a page token was not issued for this person's history, or was altered."""
