"""A throw-away PostgreSQL for tests: the machine's own programs, a data folder of its own, a Unix socket, no port.

`tests/conftest.py` has the fixtures: `postgres` is the cluster, one for the whole run; `postgres_url` is a new, empty
database in it.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.requirements import missing

START_SECONDS: Final = 30
STOP_SECONDS: Final = 30
# Whom initdb and postgres, which refuse root, run as: the first of these that the machine has.
_USERS: Final = ("postgres", "nobody")
_DEBIAN: Final = Path("/usr/lib/postgresql")
_OWNER: Final = "clew"
_OPTIONS: Final = {
    "listen_addresses": "",
    # Nothing here outlives the machine: what a process was told is committed survives the end of any process.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "log_min_messages": "warning",
}


class PostgresMissing(Exception):
    """The machine has no PostgreSQL that could be run; says what is missing."""


class PostgresFailed(Exception):
    """PostgreSQL is there and did not do what it was asked; says what it wrote."""


class Postgres:
    """A cluster that can be stopped and started again on the same data.

    Args:
        folder: Where data, socket and log go. Its path must be short: a socket's is limited to 107 characters.

    Raises:
        PostgresMissing: The programs are missing, or there is nobody to run them as.
        PostgresFailed: initdb failed.
    """

    def __init__(self, folder: Path) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._programs = programs()
        self._user = _user()
        self._databases = 0
        if self._user is not None:
            shutil.chown(folder, self._user, pwd.getpwnam(self._user).pw_gid)
        self._data = folder / "data"
        self._run("initdb", "--pgdata", self._data, "--username", _OWNER, "--auth", "trust", "--no-sync", "-E", "UTF8")

    def url(self, database: str = "postgres") -> str:
        """Where a database is."""
        return f"postgresql://{_OWNER}@/{database}?host={self._folder}"

    def new_database(self) -> str:
        """Make an empty database; its address."""
        self._databases += 1
        name = f"test_{os.getpid()}_{self._databases}"
        self._run("createdb", "--host", self._folder, "--username", _OWNER, name)
        return self.url(name)

    def start(self) -> None:
        """Start it and return when it answers.

        Raises:
            PostgresFailed: It ended, or the time is over; with the end of its log.
        """
        options = [argument for name, value in _OPTIONS.items() for argument in ("-c", f"{name}={value}")]
        command = self._as_user("postgres", "-D", self._data, "-k", self._folder, *options)
        with (self._folder / "log").open("ab") as log:
            # A session of its own: a Ctrl-C at the terminal is for the tests, which stop it in order.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        # Ends it when these tests end without stopping it, however they end: then the guard's input does.
        guard = ["sh", "-c", 'cat >/dev/null; kill -INT "$1"', "guard", str(self.process.pid)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        self._await_ready()

    def stop(self) -> None:
        """Stop it in order: connections are cut, everything is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a crash would: what was not committed is gone, and the next start recovers."""
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None or self._guard is None:
            return
        # The guard first: the number of a process that has ended may soon be another's.
        self._guard.kill()
        self._guard.communicate()
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        ask = self._as_user("pg_isready", "--quiet", "--host", self._folder, "--username", _OWNER)
        while subprocess.run(ask, check=False, capture_output=True, cwd="/").returncode != 0:
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = "\n".join((self._folder / "log").read_text("utf-8", "replace").splitlines()[-15:])
                raise PostgresFailed(f"PostgreSQL did not start:\n{tail}")
            time.sleep(0.05)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = self._as_user(program, *arguments)
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")
        if done.returncode:
            raise PostgresFailed(f"{program} failed:\n{done.stdout}{done.stderr}")

    def _as_user(self, program: str, *arguments: str | Path) -> list[str]:
        command = [str(self._programs / program), *map(str, arguments)]
        if self._user is None:
            return command
        if setpriv := shutil.which("setpriv"):
            identity = (f"--reuid={self._user}", f"--regid={pwd.getpwnam(self._user).pw_gid}", "--clear-groups")
            return [setpriv, *identity, *command]
        if runuser := shutil.which("runuser"):
            return [runuser, "-u", self._user, "--", *command]
        raise PostgresMissing("initdb refuses root, and neither setpriv nor runuser is installed")


def programs() -> Path:
    """The folder of initdb and its kin: what PATH leads to, or the newest of those that Debian keeps off it.

    Raises:
        PostgresMissing: There are none.
    """
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = [path.parent for path in _DEBIAN.glob("*/bin/initdb")]
    if not versions:
        raise PostgresMissing("PostgreSQL's server programs (initdb, postgres) are not installed")
    return max(versions, key=lambda folder: float(folder.parent.name))


def _user() -> str | None:
    """Whom to run as; None: as we are."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in _USERS:
        if name in known:
            return name
    raise PostgresMissing(f"initdb refuses root, and the machine has none of the users {', '.join(_USERS)}")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a cluster in a temporary folder; it and the folder are gone at the end.

    Raises:
        PostgresMissing: It is not installed.
        PostgresFailed: It does not start.
    """
    # Not pytest's own folder: that one is root's alone, and its path too long for a socket.
    with tempfile.TemporaryDirectory(prefix="clew-pg-") as folder:
        cluster = Postgres(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running cluster, shared by all tests: who stops it starts it again."""
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(running_postgres())
        except PostgresMissing as error:
            missing(str(error))
        yield cluster


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """A new, empty database."""
    return postgres.new_database()
