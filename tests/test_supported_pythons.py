"""What must not stand in the code because a supported Python would misread it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cli", "consent_svc", "enrich_svc", "gateway", "identity_svc", "mesh")
# A comma behind it tells the punctuation of a character class.
POSSESSIVE_GROUP = re.compile(r"\)[*+?]\+(?!,)")


def test_no_regular_expression_has_a_possessive_group() -> None:
    """Python 3.11 before 3.11.5 gives up too early on possessive groups (gh-101955); atomic groups do the same."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "re.compile" in line and POSSESSIVE_GROUP.search(line)
    ]
    assert found == []
