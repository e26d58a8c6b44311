"""The data directory of a mesh on one machine: what stands where, and the secrets that the first start makes."""

import fcntl
import hashlib
import json
import os
import secrets
import string
from dataclasses import asdict, dataclass
from pathlib import Path

ADMIN_CLIENT = "clew-admin"
BACKEND_CLIENT = "clew-backend"
WORKSPACE = "main"
SOURCE = "default"
_LETTERS = string.ascii_letters + string.digits
_SECRET_LENGTH = 32


class BadSecrets(Exception):
    """Raised when the data directory's secrets cannot be read."""


class DirectoryInUse(Exception):
    """Raised when another mesh runs from the data directory."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the first start makes, in clear; only the owner of the data directory can read it."""

    write_key: str
    admin_secret: str
    backend_secret: str

    @classmethod
    def new(cls) -> "Secrets":
        """Fresh random ones, 190 bits each."""
        return cls(_secret(), _secret(), _secret())


def _secret() -> str:
    # Letters and digits only: one that began with "-" would be an option to every command that it is given to.
    return "".join(secrets.choice(_LETTERS) for _ in range(_SECRET_LENGTH))


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one data directory."""

    data_dir: Path

    @property
    def endpoints(self) -> Path:
        """Where everything is reachable; exists only while all services are SERVING."""
        return self.data_dir / "endpoints.json"

    @property
    def sources(self) -> Path:
        """The sources that may send events. Made once, then the user's to edit."""
        return self.data_dir / "sources.json"

    @property
    def clients(self) -> Path:
        """The clients that may ask for tokens. Made once, then the user's to edit."""
        return self.data_dir / "clients.json"

    @property
    def secrets(self) -> Path:
        """The secrets in clear, mode 0600."""
        return self.data_dir / "secrets.json"

    @property
    def broker(self) -> Path:
        """Where the embedded broker says that it is ready."""
        return self.data_dir / "broker.json"

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self.data_dir / "logs"

    def lock(self) -> int:
        """Take the directory for one mesh; the descriptor holds it until it is closed, however the process ends.

        Raises:
            DirectoryInUse: Another mesh has it; the message says which process.
            OSError: The directory cannot be made or written.
        """
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.data_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace") or "unknown"
            os.close(descriptor)
            raise DirectoryInUse(
                f"{self.data_dir} is in use by process {owner}: stop that mesh, or name another --data-dir"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return descriptor

    def prepare(self) -> Secrets:
        """Make the directory, the secrets and the files that hold their hashes, where they do not exist yet.

        Raises:
            BadSecrets: The secrets are there and cannot be used.
            OSError: The directory cannot be made or written.
        """
        # Identifiers of people stand in the databases: a directory that we make is its owner's only.
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        if self.secrets.exists():
            made = self._read_secrets()
        else:
            made = Secrets.new()
            write_private(self.secrets, asdict(made))
        if not self.sources.exists():
            entry = {"workspace": WORKSPACE, "name": SOURCE, "write_key_sha256": _sha256(made.write_key)}
            write_private(self.sources, [entry])
        if not self.clients.exists():
            write_private(
                self.clients,
                [
                    {"client_id": ADMIN_CLIENT, "secret_sha256": _sha256(made.admin_secret), "scopes": ["clew.admin"]},
                    {
                        "client_id": BACKEND_CLIENT,
                        "secret_sha256": _sha256(made.backend_secret),
                        "scopes": ["clew.impersonate"],
                    },
                ],
            )
        return made

    def _read_secrets(self) -> Secrets:
        try:
            return Secrets(**json.loads(self.secrets.read_text()))
        except (ValueError, TypeError) as error:
            raise BadSecrets(
                f"{self.secrets} cannot be used: {error}. Put it back, or move it away together with"
                f" {self.sources.name} and {self.clients.name}, so that all three are made anew"
            ) from error


def write_private(path: Path, content: object) -> None:
    """Write JSON that only the owner can read, all of it or nothing."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
