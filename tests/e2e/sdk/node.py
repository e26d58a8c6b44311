"""Where the JavaScript libraries are installed: once per lock file, in the project's cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.requirements import missing, require

HERE = Path(__file__).parent
_CACHE = HERE.parents[2] / ".cache" / "e2e-node"
_INSTALL_SECONDS = 300


def node_modules(project: Path = HERE) -> Path:
    """Return the folder with the libraries of a project's lock file, installing them if they are not there yet.

    Ends the test where npm is not installed, or its registry cannot be reached.
    """
    lock_file = (project / "package-lock.json").read_bytes()
    folder = _CACHE / hashlib.sha256(lock_file).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    # Test processes that run beside each other wait for the one that installs.
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            _install(folder, project)
    return folder / "node_modules"


def _install(folder: Path, project: Path) -> None:
    npm = require("npm")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(project / name, folder)
    # No library's own code runs while it is installed; the optional ones are for a queue in Redis.
    command = [str(npm), "ci", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
    )
    if done.returncode:
        missing(f"npm ci failed: {done.stderr[-2000:]}")
    (folder / ".complete").touch()
