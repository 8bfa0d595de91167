"""A PostgreSQL server of the tests' own, in a directory of its own, behind a Unix socket.

initdb and the server refuse to run as root, so root starts them as the user that Debian's package
made, or as nobody. Debian: `apt-get install postgresql`.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

__all__ = ["HOW_TO_GET", "WITH_PASSWORD", "Server", "programs"]

WITH_PASSWORD = "careful"
"""A role that needs one; others are trusted."""

HOW_TO_GET = "PostgreSQL's server is not here: apt-get install postgresql"
START_S = 60.0
POLL_S = 0.05
PORT = 54329  # names the socket; no port of the machine is taken


def programs() -> Path | None:
    """Where initdb and postgres are; the newest version."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=_version)
    here = shutil.which("initdb")
    return Path(found[-1]).parent if found else Path(here).resolve().parent if here else None


def _version(path: str) -> int:
    number = Path(path).parent.parent.name
    return int(number) if number.isdigit() else 0


class Server:
    """A server; ``start`` and ``stop`` may follow each other.

    Attributes:
        folder: Its data, its socket and its log; gone after ``remove``.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.folder = Path(tempfile.mkdtemp(prefix="sealrec-pg-"))
        self._user = self._unprivileged()
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "tests", "-E", "UTF8",
                  "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        rules = f"local all {WITH_PASSWORD} scram-sha-256\nlocal all all trust\n"
        (self._data / "pg_hba.conf").write_text(rules)

    @staticmethod
    def _unprivileged() -> pwd.struct_passwd | None:
        if os.geteuid() != 0:
            return None
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        return known.get("postgres") or known["nobody"]

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _as_user(self) -> dict[str, object]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            check=False, capture_output=True, cwd=self.folder, **self._as_user(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace"))

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "port": str(PORT),
            "fsync": "off",
            "max_connections": "40",
            "dynamic_shared_memory_type": "mmap",  # nothing in /dev/shm
        }
        arguments = [f"-c{name}={value}" for name, value in settings.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._data), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                **self._as_user(),
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.dsn("postgres")).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(POLL_S)

    def stop(self) -> None:
        """Stop it at once; clients lose their connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_S)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """A server that takes connections, as its system does for it, and answers nothing."""
        assert self._process is not None
        family = [psutil.Process(self._process.pid)]
        family += family[0].children(recursive=True)
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def remove(self) -> None:
        """Stop it and remove its directory."""
        self.stop()
        shutil.rmtree(self.folder)

    def dsn(self, database: str) -> str:
        """For psycopg."""
        return f"host={self.folder} port={PORT} user=tests dbname={database}"

    def url(self, database: str) -> str:
        """For a catalog."""
        return f"postgresql://tests@/{database}?host={self.folder}&port={PORT}"

    def run_sql(self, database: str, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[arg-type]

    def new_database(self) -> str:
        """An empty database; its name."""
        self._databases += 1
        name = f"t{self._databases}"
        self.run_sql("postgres", f"CREATE DATABASE {name}")
        return name
