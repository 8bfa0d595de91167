"""Speaks HTTP to the review server as anybody could: any header, any path, any body."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any

from tests.review.conftest import Server

__all__ = ["Answer", "Client"]

TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Client:
    """One browser, or somebody who is none.

    Attributes:
        server: Whom it speaks to.
        cookie: What it sends as Cookie; nothing if empty.
    """

    server: Server
    cookie: str = ""
    folder: str = field(init=False)

    def __post_init__(self) -> None:
        self.folder = "/" + self.server.base.split("/")[3] + "/"

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        """One request to a path below the folder, or to an absolute one.

        Names of headers are given with ``_`` for ``-``; an empty value leaves a header out.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=TIMEOUT_S)
        sent = {"Host": self.server.origin.removeprefix("http://"), "Cookie": self.cookie}
        if method == "POST":
            sent["Origin"] = self.server.origin
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.putrequest(
                method,
                path if path.startswith("/") else self.folder + path,
                skip_host=True,
                skip_accept_encoding=True,
            )
            for name, value in sent.items():
                if value:
                    connection.putheader(name, value)
            if body is not None and "Content-Length" not in sent:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            found = connection.getresponse()
            return Answer(found.status, found.headers, found.read())
        finally:
            connection.close()

    def post(self, path: str, value: Any = None, **headers: str) -> Answer:
        """A POST with JSON."""
        body = b"" if value is None else json.dumps(value).encode()
        return self.ask(path, method="POST", body=body, **headers)

    def launch(self) -> Answer:
        """Follow the launch link and keep the cookie."""
        found = self.ask("/" + self.server.url.split("/", 3)[3])
        self.cookie = (found.headers["Set-Cookie"] or "").partition(";")[0]
        return found

    def id_of(self, name: str) -> str:
        """How the server calls a recording."""
        listed = self.ask("library").json["recordings"]
        return str(next(row["id"] for row in listed if row["name"] == name))

    def unlock(self, name: str, kind: str, value: str) -> Answer:
        """Open a recording."""
        return self.post(f"recordings/{self.id_of(name)}/unlock", {"kind": kind, "value": value})
