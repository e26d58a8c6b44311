"""`make check` itself: what contracts are compared with, and that differences are found."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tools import check

ROOT = check.ROOT


class Repository:
    """A git repository in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commits = 0
        folder.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        """Run git as nobody in particular."""
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=self.folder, capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout.strip()

    def commit(self) -> str:
        """Commit everything and return the commit."""
        self.commits += 1
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", f"change {self.commits}")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """An empty repository that the checks take for the project."""
    repository = Repository(tmp_path / "project")
    monkeypatch.setattr(check, "ROOT", repository.folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return repository


@pytest.fixture
def contracts(repository: Repository) -> Path:
    """A committed copy of the project's contracts; returns the file of events."""
    for name in ("proto", "third_party/proto"):
        shutil.copytree(ROOT / name, repository.folder / name)
    shutil.copy(ROOT / "buf.yaml", repository.folder)
    repository.commit()
    return repository.folder / "proto/clew/event/v1/event.proto"


def test_a_branch_is_compared_with_where_it_left_main(repository: Repository) -> None:
    """Commits that main got since do not count against the branch."""
    left = repository.commit()
    repository.git("switch", "-q", "-c", "work")
    repository.commit()
    repository.git("switch", "-q", "main")
    repository.commit()
    repository.git("switch", "-q", "work")
    assert check.contract_baseline() == (left, "where this branch left main")


def test_main_is_compared_with_what_was_pushed(repository: Repository) -> None:
    """All commits that nobody else has yet are checked together."""
    pushed = repository.commit()
    repository.git("update-ref", "refs/remotes/origin/main", pushed)
    repository.commit()
    repository.commit()
    assert check.contract_baseline() == (pushed, "where this branch left origin/main")


def test_main_without_a_remote_is_compared_with_the_commit_before(repository: Repository) -> None:
    """There is always something older to compare with, except at the very beginning."""
    before = repository.commit()
    repository.commit()
    assert check.contract_baseline() == (before, "the commit before")


def test_a_clone_with_one_commit_passes_and_says_why(repository: Repository) -> None:
    """A shallow clone has nothing to compare with; nor has a tree without git."""
    repository.commit()
    outcome = check.check_compatibility()
    assert outcome.passed
    assert "only one commit" in outcome.note
    shutil.rmtree(repository.folder / ".git")
    outcome = check.check_compatibility()
    assert outcome.passed
    assert "no git repository" in outcome.note


def test_a_baseline_without_contracts_passes_and_says_so(repository: Repository) -> None:
    """The first contracts break nobody."""
    repository.commit()
    repository.commit()
    outcome = check.check_compatibility()
    assert outcome.passed
    assert "has no contracts" in outcome.note


def test_a_breaking_change_is_found(repository: Repository, contracts: Path) -> None:
    """A field that changes its type fails the check and is named; the same contracts pass."""
    repository.commit()
    assert check.check_compatibility().passed
    contracts.write_text(contracts.read_text().replace("string user_id = 4", "bytes user_id = 4"))
    outcome = check.check_compatibility()
    assert not outcome.passed
    assert "user_id" in outcome.output


def test_trees_that_differ(tmp_path: Path) -> None:
    """A file that is changed, missing or left over is named; equal trees say nothing."""
    committed, generated = tmp_path / "gen", tmp_path / "new"
    for folder in (committed, generated):
        folder.mkdir()
        (folder / "same.py").write_text("1\n")
    assert check.compare_trees(committed, generated) == []
    (committed / "old.py").write_text("1\n")
    (generated / "new.py").write_text("1\n")
    (generated / "same.py").write_text("2\n")
    found = check.compare_trees(committed, generated)
    assert found[:2] == ["only in gen/: old.py", "missing in gen/: new.py"]
    assert "+2" in found[2]


def test_the_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One failure fails the whole and shows its output; a missing tool fails its check; a wrong name is refused."""
    good = check.Outcome(passed=True, note="fine")
    bad = check.Outcome(passed=False, output="what is wrong")
    monkeypatch.setattr(check, "CHECKS", {"good": lambda: good, "bad": lambda: bad, "gone": check.tool("no-such-tool")})
    assert check.main(["good"]) == 0
    assert check.main([]) == 1
    shown = capsys.readouterr().out
    assert "what is wrong" in shown
    assert "1 of 3 checks passed" in shown
    assert "make setup" in shown
    assert check.main(["nonsense"]) == 2
