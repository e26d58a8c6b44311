"""The code that docs/TOPICS.md shows, by the names that stand beside each block's language."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "TOPICS.md"
_BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks() -> dict[str, str]:
    """Every named block of the page."""
    return dict(_BLOCK.findall(PAGE.read_text(encoding="utf-8")))


def write_blocks(folder: Path, *names: str) -> None:
    """Write blocks to the files that they are named by."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(blocks()[name], encoding="utf-8")


def without_installing(script: str) -> str:
    """A shell block less what installs packages: the tests have theirs from lock files."""
    return "\n".join(line for line in script.splitlines() if not line.startswith(("pip install", "npm install")))
