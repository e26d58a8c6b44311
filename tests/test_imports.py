"""Who may import whom: services stay apart, the mechanism free of the domain, and the rules of the domain pure."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SERVICES = ("consent_svc", "enrich_svc", "identity_svc", "gateway")
PACKAGES = ("mesh", *SERVICES, "cli")
GENERATED = ("clew", "buf")
DEVELOPMENT = ("bench", "tests", "tools")

# What each package may import of the project, beside itself. The command line starts the services as processes only.
ALLOWED = {"mesh": GENERATED} | dict.fromkeys((*SERVICES, "cli"), ("mesh", *GENERATED))

# The domain words that the mechanism must know: why a call is refused, and what a field may show.
MESH_CONTRACTS = ("clew.errors", "clew.options", "clew.stream")

# The modules of a service that touch the world, by the first name below the package. Every other one holds pure rules
# on plain values: it can be read, tested and reused without a server, a clock or a disk. The gateway is all edge.
SHELL = {"__init__", "__main__", "main", "service", "settings", "store"}
APPLICATION = {"consent_svc": {"consents"}, "enrich_svc": set[str](), "identity_svc": {"signing_key"}}

IMPURE = {"asyncio", "grpc", "multiprocessing", "os", "random", "socket", "sqlite3", "subprocess", "threading", "time"}


@dataclass(frozen=True)
class Import:
    """One imported module and where."""

    path: Path
    line: int
    module: str

    @property
    def package(self) -> str:
        """The top-level package."""
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        """Path and line first, so that an editor can follow a failure."""
        return f"{self.path}:{self.line} imports {self.module}"


def imports_of(package: str) -> Iterator[Import]:
    """Every import statement of a package, those inside functions too, and imports by name."""
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            for module in modules_of(node, path.relative_to(ROOT)):
                yield Import(path.relative_to(ROOT), getattr(node, "lineno", 0), module)


def modules_of(node: ast.AST, path: Path) -> list[str]:
    """The modules that a syntax node imports."""
    match node:
        case ast.Import(names=names):
            return [name.name for name in names]
        case ast.ImportFrom(module=module, level=0) if module:
            return [module]
        case ast.ImportFrom(level=level):
            return [".".join(path.parts[: -level or None])]
        case ast.Call(
            func=ast.Name(id="__import__") | ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name))]
        ):
            return [name]
        case _:
            return []


def broken(found: Iterator[Import]) -> list[str]:
    """What broke the rule, one line each."""
    return [str(one) for one in found]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_is_below_them(package: str) -> None:
    """A service imports mesh, generated code and itself; services never import each other; mesh imports none."""
    project = {*PACKAGES, *GENERATED, *DEVELOPMENT}
    allowed = {package, *ALLOWED[package]}
    assert broken(one for one in imports_of(package) if one.package in project - allowed) == []


def test_mesh_knows_no_domain() -> None:
    """Of the contracts, the mechanism knows the reasons of errors and the privacy option only."""
    assert (
        broken(one for one in imports_of("mesh") if one.package == "clew" and not one.module.startswith(MESH_CONTRACTS))
        == []
    )


@pytest.mark.parametrize("service", APPLICATION)
def test_rules_are_pure(service: str) -> None:
    """Domain modules import no server, clock, environment, thread, database or chance."""
    shell = SHELL | APPLICATION[service]
    found = (one for one in imports_of(service) if Path(*one.path.parts[1:2]).stem not in shell)
    assert broken(one for one in found if one.package in IMPURE) == []


@pytest.mark.parametrize("service", APPLICATION)
def test_modules_that_touch_the_world_exist(service: str) -> None:
    """The list of exceptions names no module that is gone."""
    assert [name for name in APPLICATION[service] if not (ROOT / service / f"{name}.py").exists()] == []


def test_a_relative_or_dynamic_import_is_seen() -> None:
    """The reader of imports misses none of the forms."""
    source = "import a.b; from c.d import e; from . import f; from ..x import y; import_module('g.h'); __import__('i')"
    nodes = ast.walk(ast.parse(source.replace("import_module", "importlib.import_module")))
    found = [module for node in nodes for module in modules_of(node, Path("package/inner/module.py"))]
    assert sorted(found) == ["a.b", "c.d", "g.h", "i", "package", "package.inner"]
