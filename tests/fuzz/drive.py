"""One target under atheris: `python -m tests.fuzz.drive TARGET [libFuzzer options] CORPUS`."""

import sys

import atheris

with atheris.instrument_imports(include=["gateway", "mesh.jwks", "mesh.tracecontext", "mesh.validation"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run until libFuzzer's options say that it is enough, or an input raises."""
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
