"""Attacks on the review server: whoever has not the cookie of the launch gets nothing."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.review.client import Client
from tests.review.conftest import PASSWORD, Server, Shelf, serving

VIDEO = ("init/0", "media/0/0", "frames/0/0", "playlist.m3u8", "manifest", "timeline", "verdict")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server's words go."""
    return tmp_path_factory.mktemp("told") / "stderr"


@pytest.fixture(scope="module")
def server(shelf: Shelf, told: Path) -> Iterator[Server]:
    """A server whose words are kept."""
    with serving(shelf.folder, err=told) as running:
        yield running


@pytest.fixture(scope="module")
def reviewer(server: Server, shelf: Shelf) -> Client:
    """The browser that was let in, with the good recording open."""
    client = Client(server)
    assert client.launch().status == 200
    key = shelf.key_file.read_text()
    assert client.unlock("good.mp4.enc", "key_file", key).status == 200
    return client


@pytest.fixture(scope="module")
def good(reviewer: Client) -> str:
    """Path of the open recording."""
    return f"recordings/{reviewer.id_of('good.mp4.enc')}/"


def test_it_listens_on_loopback_alone(server: Server) -> None:
    """One socket, on 127.0.0.1."""
    listening = [
        connection.laddr
        for connection in psutil.Process(server.process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert [tuple(address) for address in listening] == [("127.0.0.1", server.port)]


def test_without_the_cookie_there_is_nothing(server: Server, reviewer: Client, good: str) -> None:
    """No page, no list, no script, no byte of a recording; also with a made-up cookie."""
    name = reviewer.cookie.partition("=")[0]
    for cookie in ("", f"{name}=", f"{name}=x", f"{name}={'A' * 43}", "\x80=;;;,"):
        stranger = Client(server, cookie)
        for path in ("", "library", "static/main.js", *(good + rest for rest in VIDEO)):
            answer = stranger.ask(path)
            assert answer.status == 403, (cookie, path)
            assert b"ftyp" not in answer.body
        assert stranger.post(good + "lock").status == 403
    assert reviewer.ask(good + "manifest").status == 200


def test_a_launch_link_works_once(server: Server, reviewer: Client) -> None:
    """Stolen after the exchange it opens nothing, whoever has it; neither does a guess."""
    spent = "/" + server.url.split("/", 3)[3]
    thief = Client(server)
    for path in (spent, spent.partition("=")[0] + "=guess", spent.partition("?")[0]):
        answer = thief.ask(path)
        assert answer.status == 403
        assert answer.headers["Set-Cookie"] is None
    again = reviewer.ask(spent)  # the reviewer went back in the history
    assert again.status == 200
    assert again.headers["Set-Cookie"] is None


def test_the_cookie_is_out_of_reach(shelf: Shelf) -> None:
    """For scripts, for other sites, and for other servers of this machine."""
    with serving(shelf.folder) as server:
        client = Client(server)
        answer = client.launch()
    words = [word.strip() for word in answer.headers["Set-Cookie"].split(";")]
    assert words[1:] == [f"Path={client.folder}", "HttpOnly", "SameSite=Strict"]
    assert len(client.folder) > 20  # nobody guesses it


def test_another_host_is_refused(reviewer: Client) -> None:
    """A foreign name that resolves to 127.0.0.1 gets nothing, also with the cookie."""
    port = reviewer.server.port
    for host in ("evil.example", f"evil.example:{port}", f"localhost:{port}", "127.0.0.1", "127.1"):
        assert reviewer.ask("library", Host=host).status == 421, host
    assert reviewer.ask("library", Host="").status in (400, 421)


def test_another_origin_is_refused(reviewer: Client, good: str) -> None:
    """Other sites, other ports and a page without an origin; a POST has to have ours."""
    other = f"http://127.0.0.1:{reviewer.server.port + 1}"
    for origin in ("https://evil.example", other, "null", reviewer.server.origin + "/"):
        assert reviewer.ask("library", Origin=origin).status == 403, origin
        assert reviewer.post(good + "lock", Origin=origin).status == 403, origin
    assert reviewer.post(good + "lock", Origin="").status == 403
    for site in ("cross-site", "same-site"):
        assert reviewer.ask(good + "media/0/0", Sec_Fetch_Site=site).status == 403
    assert reviewer.ask(good + "manifest").status == 200  # nobody locked it


def test_other_methods_are_refused(reviewer: Client, good: str) -> None:
    """Nothing but reading and the page's own requests; no answer to a preflight either."""
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        answer = reviewer.ask(good + "manifest", method=method)
        assert answer.status == 405, method
        assert answer.headers["Access-Control-Allow-Origin"] is None
    assert reviewer.post(good + "manifest").status == 405
    assert reviewer.ask(good + "unlock").status == 405


@pytest.mark.parametrize(
    "path",
    [
        "static/../../../etc/passwd",
        "static/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "static/..%5c..%5csecret",
        "static//etc/passwd",
        "recordings/../../etc/passwd",
        "recordings/%2fetc%2fpasswd/manifest",
        "recordings/good.mp4.enc/manifest",
        "recordings/..%2fgood.mp4.enc/manifest",
        "recordings//manifest",
        "../library",
        "%00",
        "static/%00",
    ],
)
def test_no_path_leads_anywhere(reviewer: Client, path: str) -> None:
    """Recordings have ids and files of the page names; both are looked up, never opened."""
    answer = reviewer.ask(path)
    assert answer.status in (400, 403, 404, 423)
    assert b"root:" not in answer.body


def test_numbers_out_of_range_are_refused(reviewer: Client, good: str) -> None:
    """Parts and fragments that are not there, however they are written."""
    for number in ("99999", "-1", "1e3", "0x1", "٣", "1" * 5000, "NaN", "0/../1", "%20"):
        quoted = number.encode().hex("%")
        for path in (f"media/0/%{quoted}", f"media/%{quoted}/0", f"init/%{quoted}"):
            answer = reviewer.ask(good + path)
            assert answer.status in (400, 404), number
            assert len(answer.body) < 1000


def test_ranges_are_not_multiplied(reviewer: Client, good: str) -> None:
    """A fragment is the smallest and largest that can be asked for."""
    whole = reviewer.ask(good + "media/0/1")
    ranges = "bytes=" + ",".join("0-" for _ in range(1000))
    for asked in ("bytes=0-3", "bytes=-1", "bytes=9999999999-", ranges):
        answer = reviewer.ask(good + "media/0/1", Range=asked)
        assert (answer.status, answer.body) == (200, whole.body)
    assert whole.body[4:8] == b"moof"


def test_every_answer_forbids_keeping_and_framing(reviewer: Client, good: str) -> None:
    """Also of what is refused."""
    for path in ("", "library", "static/main.js", "nothing", *(good + rest for rest in VIDEO)):
        headers = reviewer.ask(path).headers
        assert headers["Cache-Control"] == "no-store"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Server"] is None


def test_the_page_brings_everything_along(reviewer: Client) -> None:
    """No address of another server, no script or style in the page itself."""
    html = reviewer.ask("").body.decode()
    assert not re.search(r"https?://|\bon\w+=|<style|style=|<script(?![^>]*src=)", html)
    for name in sorted(set(re.findall(r'"static/([\w.]+)"', html))):
        assert reviewer.ask(f"static/{name}").status == 200


def test_guessing_takes_longer_and_longer(shelf: Shelf) -> None:
    """For all recordings and browsers together; the right password does not jump the queue."""
    with serving(shelf.folder) as server:
        client = Client(server)
        client.launch()
        names = ["good.mp4.enc", "cut.mp4.enc", "good.mp4.enc", "below/other.mp4.enc"]
        found = [client.unlock(n, "password", f"guess {i}") for i, n in enumerate(names)]
        assert [answer.status for answer in found] == [403, 403, 403, 429]
        refused = client.unlock("good.mp4.enc", "password", PASSWORD)
        assert refused.status == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 2
        assert "Too many wrong keys" in refused.json["message"]


@pytest.mark.parametrize("announced", [True, False])
def test_a_large_body_is_not_read(reviewer: Client, good: str, announced: bool) -> None:
    """Neither one that says so nor one that comes in pieces."""
    body = b"x" * 70_000 if announced else (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 20
    headers = {"Content_Length": "1000000000"} if announced else {"Transfer_Encoding": "chunked"}
    headers = {"Content_Length": ""} | headers
    answer = reviewer.ask(good + "unlock", method="POST", body=body, **headers)
    assert answer.status == 413


def test_what_is_no_request_of_the_page_is_refused(reviewer: Client, good: str) -> None:
    """And what was sent is not repeated."""
    for body in (b"", b"{", b'{"kind":"password"}', b'{"kind":"x","value":"secret-word"}', b"\xff"):
        answer = reviewer.ask(good + "unlock", method="POST", body=body)
        assert answer.status == 400
        assert b"secret-word" not in answer.body


def test_slow_clients_keep_nobody_waiting(reviewer: Client, good: str) -> None:
    """Half a request, none at all and an answer that nobody reads."""
    slow = []
    try:
        for begun in (
            b"GET / HT",
            b"",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
        ):
            connection = socket.create_connection(("127.0.0.1", reviewer.server.port))
            slow.append(connection)
            connection.sendall(begun)
        for _ in range(5):
            assert reviewer.ask(good + "media/0/0").status == 200
    finally:
        for connection in slow:
            connection.close()


def test_nothing_of_it_is_logged(reviewer: Client, good: str, told: Path) -> None:
    """No request, no key, no token; asked last, when all of that has happened."""
    reviewer.unlock("good.mp4.enc", "password", "a-wrong-" + PASSWORD)
    reviewer.ask(good + "media/0/0")
    assert told.read_text() == ""
