"""All checks in one command: `make check`, or `python tools/check.py NAME...` for some of them.

Format, lint, types, contracts (format, lint, compatibility), what is generated from them, import rules. Each says how
it went as it ends; what a failed one printed follows. Exit status 0 when all passed, 1 otherwise. Nothing in the tree
is changed.
"""

import difflib
import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Long enough for a cold mypy on a busy machine; a tool that hangs must not hang the check.
TIMEOUT_SECONDS = 600

# A generated file that differs is regenerated as a whole: a few lines show why.
DIFF_LINES = 40

MAIN_REFS = ("origin/main", "main")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a check went: passed or not, one line that says what was looked at, and what the tool printed."""

    passed: bool
    note: str = ""
    output: str = ""


Check = Callable[[], Outcome]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment, which need not be the one that is activated."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )


def tool(*command: str) -> Check:
    """A check that passes when a command exits with 0."""

    def check() -> Outcome:
        done = run(*command)
        return Outcome(done.returncode == 0, " ".join(command), done.stdout)

    return check


def git(*arguments: str) -> str:
    """What git answers; empty when it fails, which is an answer too: no repository, no such commit."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def contract_baseline() -> tuple[str, str]:
    """The commit whose contracts must stay readable, and why it is that one; the commit is empty when there is none.

    On a branch it is where the branch left main; on main itself what is pushed, else the commit before the last.
    """
    head = git("rev-parse", "--verify", "HEAD")
    if not head:
        return "", "nothing to compare with: this is no git repository, or it has no commit"
    for ref in MAIN_REFS:
        base = git("merge-base", "HEAD", ref)
        if base and base != head:
            return base, f"where this branch left {ref}"
    before = git("rev-parse", "--verify", "HEAD~1")
    if not before:
        return "", "nothing to compare with: only one commit is here"
    return before, "the commit before"


def check_compatibility() -> Outcome:
    """Compare the contracts with those of the baseline: no change may break a reader, a writer or generated code."""
    commit, why = contract_baseline()
    if not commit:
        return Outcome(passed=True, note=why)
    against = f"against {commit[:9]}, {why}"
    kept = [path for path in ("proto", "third_party/proto", "buf.yaml") if git("ls-tree", commit, path)]
    if "proto" not in kept:
        return Outcome(passed=True, note=f"nothing to compare with: {commit[:9]}, {why}, has no contracts")
    with tempfile.TemporaryDirectory() as folder:
        # An archive rather than buf's own git input: it works in a shallow clone and in a worktree.
        command = ["git", "archive", "--format=zip", commit, *kept]
        archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        with zipfile.ZipFile(io.BytesIO(archive.stdout)) as files:
            files.extractall(folder)
        done = run("buf", "breaking", "--against", folder)
    return Outcome(done.returncode == 0, against, done.stdout)


def check_generated() -> Outcome:
    """Generate the code anew, elsewhere, and compare it with gen/."""
    with tempfile.TemporaryDirectory() as folder:
        done = run("buf", "generate", "-o", folder)
        if done.returncode != 0:
            return Outcome(passed=False, note="buf generate", output=done.stdout)
        differences = compare_trees(ROOT / "gen", Path(folder, "gen"))
    advice = "gen/ is not what proto/ generates. Run `make proto` and commit the result.\n"
    return Outcome(not differences, "gen/ against buf generate", advice + "\n".join(differences))


def compare_trees(committed: Path, generated: Path) -> list[str]:
    """Say how two trees of text files differ, one entry a file."""
    old, new = read_tree(committed), read_tree(generated)
    differences = [f"only in {committed.name}/: {name}" for name in sorted(old.keys() - new.keys())]
    differences += [f"missing in {committed.name}/: {name}" for name in sorted(new.keys() - old.keys())]
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            lines = difflib.unified_diff(
                old[name].splitlines(), new[name].splitlines(), f"committed/{name}", f"generated/{name}", lineterm=""
            )
            differences.append("\n".join(list(lines)[:DIFF_LINES]))
    return differences


def read_tree(folder: Path) -> dict[str, str]:
    """All files below a folder that buf generates, by their path; the registry's table has a check of its own."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix in {".py", ".pyi"})
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


CHECKS: dict[str, Check] = {
    "format": tool("ruff", "format", "--check", "."),
    "lint": tool("ruff", "check", "."),
    "proto-format": tool("buf", "format", "--diff", "--exit-code", "proto"),
    "proto-lint": tool("buf", "lint"),
    "proto-breaking": check_compatibility,
    "generated": check_generated,
    "openapi": tool("python", "tools/compile_openapi.py", "--check"),
    "asyncapi": tool("python", "tools/compile_asyncapi.py", "--check"),
    "topics": tool("python", "tools/compile_topics.py", "--check"),
    "registry": tool("python", "tools/compile_registry.py", "--check"),
    "contract-lock": tool("python", "tools/contract_lock.py", "--check"),
    "settings": tool("python", "tools/settings_table.py", "--check"),
    "types": tool("mypy"),
    "rules": tool("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_imports.py", "tests/contract"),
}


def timed(name: str) -> tuple[str, Outcome, float]:
    """Run one check; a tool that is missing or hangs fails it, and it alone."""
    started = time.monotonic()
    try:
        outcome = CHECKS[name]()
    except (OSError, subprocess.SubprocessError) as error:
        outcome = Outcome(passed=False, output=f"{error}\nIs everything installed? `make setup` does it.")
    return name, outcome, time.monotonic() - started


def main(arguments: list[str]) -> int:
    """Run the named checks, or all, two at a time, and sum up."""
    unknown = sorted(set(arguments) - set(CHECKS))
    if unknown:
        print(f"no such check: {', '.join(unknown)}. There are: {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    chosen = arguments or list(CHECKS)
    failed: list[str] = []
    started = time.monotonic()
    with ThreadPoolExecutor(max_workers=2) as pool:
        for done in as_completed([pool.submit(timed, name) for name in chosen]):
            name, outcome, seconds = done.result()
            print(f"{'ok    ' if outcome.passed else 'FAILED'} {name:<15} {seconds:5.1f} s  {outcome.note}", flush=True)
            if not outcome.passed:
                failed.append(name)
                print(outcome.output.rstrip() + "\n", flush=True)
    passed = len(chosen) - len(failed)
    print(f"{passed} of {len(chosen)} checks passed in {time.monotonic() - started:.1f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
