"""A language tag taken apart (BCP 47, RFC 5646 section 2.1)."""

import re
from dataclasses import dataclass

# langtag = language [extlang] [script] [region] *(variant / extension / privateuse), read in lower case. No language of
# four or more letters is registered, so that `posix` and `default` are none here.
TAG = re.compile(
    r"(?P<language>[a-z]{2,3})"
    r"(?:-[a-z]{3}){0,3}"
    r"(?:-[a-z]{4})?"
    r"(?:-(?P<region>[a-z]{2}|[0-9]{3}))?"
    r"(?:-[a-z0-9]{1,8})*"
)

# What clients send around the tag: `en_US.UTF-8`, `ca_ES@valencia`, `en-US,en;q=0.9`.
TAIL = re.compile(r"[.@,;\s]")

# Codes that ISO 639 withdrew and old clients (Java's Locale first of all) still send, by the code that replaced them.
RENAMED = {"in": "id", "iw": "he", "ji": "yi", "jw": "jv", "mo": "ro", "sh": "sr"}

# "Undetermined", "no linguistic content", "several" and "uncoded" name no language.
NO_LANGUAGE = frozenset({"mis", "mul", "und", "zxx"})


@dataclass(frozen=True, slots=True)
class Language:
    """A language in lower case and a region in upper case, empty when absent."""

    language: str
    region: str


def read_locale(text: str) -> Language | None:
    """Take a language tag apart; POSIX forms are read too. None when no language can be read."""
    tag = TAIL.split(text.strip(), maxsplit=1)[0].replace("_", "-").lower()
    match = TAG.fullmatch(tag)
    if match is None or match["language"] in NO_LANGUAGE:
        return None
    return Language(RENAMED.get(match["language"], match["language"]), (match["region"] or "").upper())
