"""Tools that some tests need and not every machine has.

Where one is missing the test is skipped and says why; with `CLEW_REQUIRE_ALL=1`, as in CI, it fails instead, so that
nothing is skipped there unnoticed.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

# A tool goes by other names on other systems.
_NAMES = {"chromium": ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")}


def require(tool: str) -> Path:
    """Return the path of a tool; where there is none the test ends here."""
    for name in _NAMES.get(tool, (tool,)):
        if found := shutil.which(name):
            return Path(found)
    return missing(f"{tool} is not installed")


def missing(reason: str) -> NoReturn:
    """End the test because something it needs is not there: skipped, or failed where everything is required."""
    if os.environ.get("CLEW_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}, and CLEW_REQUIRE_ALL=1 lets no test be skipped")
    pytest.skip(reason)
