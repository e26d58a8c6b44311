"""Compile the contracts into the OpenAPI document, gen/clew/openapi.json: part of `make proto`.

The same contracts give the same bytes. `--check` writes nothing and exits with 1 when the document in the tree is not
what this would write.
"""

import argparse
import json
import sys
from typing import Final

from tools.openapi.comments import ROOT, build_sources
from tools.openapi.document import document

DOCUMENT: Final = ROOT / "gen/clew/openapi.json"


def compile_document() -> str:
    """The document as text."""
    return json.dumps(document(build_sources()), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the document, or with `--check` compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args(arguments).check
    text = compile_document()
    if not check:
        DOCUMENT.write_text(text, encoding="utf-8")
        return 0
    if DOCUMENT.exists() and DOCUMENT.read_text(encoding="utf-8") == text:
        return 0
    print(f"{DOCUMENT.relative_to(ROOT)} is not what the contracts give. Run `make proto` and commit the result.")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
