"""What happens where a tool, or the registry of the JavaScript libraries, is missing."""

import json
import sys

import pytest

from tests.e2e.sdk.node import HERE
from tests.support.requirements import require


def test_a_tool_that_is_there_is_found() -> None:
    """Its path is returned."""
    assert require("sh").name == "sh"


def test_a_missing_tool_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without it the test is skipped, and the reason names the tool."""
    monkeypatch.delenv("CLEW_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool is not installed"):
        require("no-such-tool")


def test_a_missing_tool_fails_the_test_where_all_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI nothing is skipped unnoticed."""
    monkeypatch.setenv("CLEW_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-tool is not installed, and CLEW_REQUIRE_ALL=1"):
        require("no-such-tool")


def test_a_browser_goes_by_several_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chromium is also looked for under the names that other systems give it."""
    monkeypatch.setattr("shutil.which", lambda name: sys.executable if name == "google-chrome" else None)
    assert str(require("chromium")) == sys.executable


def test_the_lock_file_names_no_registry() -> None:
    """Every package is pinned by its digest and comes from whatever registry npm is set to."""
    lock = json.loads((HERE / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert all("integrity" in package and "resolved" not in package for package in packages.values())
