"""The engine's feed: rows follow facts, and no catalog, however it is, holds anybody up."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from engine.catalog import audit, feed
from engine.catalog.facts import (
    Began,
    Fact,
    FramesLost,
    Marked,
    PartClosed,
    PartOpened,
    Paused,
    Resumed,
    Stopped,
)
from engine.catalog.feed import CatalogFeed, CatalogNews
from engine.catalog.rows import MAX_LOSSES, store
from engine.catalog.schema import initialize
from engine.catalog.store import Catalog
from ipc.frame import Loss, LossClass
from tests.engine.catalog import postgres
from tests.engine.catalog.conftest import Site, postgresql_site, sqlite_site

ID = bytes(range(16))
U64 = 2**64 - 1
LONG_S = 60.0
SESSION = {"session_id": "s-1", "subject": "Ω. Muster", "operator": "M. Curie"}


def began(path: str = "/data/s-1/recording.mp4.enc", recording_id: bytes = ID) -> Began:
    return Began(recording_id=recording_id, path=Path(path), source="synthetic", session=SESSION)


def closed(part: int = 0, state: str = "sealed", *, earlier: bool = False) -> PartClosed:
    return PartClosed(
        recording_id=ID,
        part=part,
        path=Path(f"/data/s-1/{part}"),
        state=state,
        generation=2**32 - 1,
        chunk_count=U64,
        header_mac=bytes([7]) * 32,
        commitment=bytes([8]) * 32,
        size_bytes=2**40,
        payload_bytes=U64,
        earlier=earlier,
    )


def stopped(problem: str = "", state: str = "sealed") -> Stopped:
    return Stopped(
        recording_id=ID, state=state, frames_offered=U64, frames_written=U64 - 3, gaps=1,
        balanced=True, duration_s=0.1 + 0.2, size_bytes=2**40, parts=1, problem=problem,
    )  # fmt: skip


def write(site: Site, *facts: Fact) -> None:
    with Catalog(site.place).writing() as connection:
        store(connection, audit.read_key(site.place), facts)


def holds(site: Site) -> bool:
    with Catalog(site.place).reading() as connection:
        return audit.check(connection, audit.read_key(site.place)).holds


class News:
    """What a feed said, waited for rather than slept for."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[CatalogNews] = queue.SimpleQueue()

    def post(self, news: CatalogNews) -> None:
        self._said.put(news)

    def wait(self, kind: str) -> CatalogNews:
        news = self._said.get(timeout=LONG_S)
        assert news.kind == kind
        return news

    @property
    def silent(self) -> bool:
        return self._said.empty()


@contextmanager
def feeding(site: Site) -> Iterator[tuple[CatalogFeed, News]]:
    news = News()
    fed = CatalogFeed(site.place, news.post)
    try:
        yield fed, news
    finally:
        fed.close(LONG_S)
        fed._thread.join(LONG_S)


# --- rows -------------------------------------------------------------------------------------


def test_a_recording_from_start_to_stop(site: Site) -> None:
    """Its rows say what happened, the session's row with the controller's columns."""
    status = "SELECT status FROM sessions"
    with feeding(site) as (fed, news):
        fed.put(began())
        fed.put(Marked(recording_id=ID, host_ns=5, kind="laser_on", text="50 W"))
        fed.put(FramesLost(recording_id=ID, losses=(loss(7, 9),)))
        fed.put(closed())
        fed.put(stopped())
        assert fed.close(LONG_S) == 0
        assert news.silent
    assert site.ask(status) == [("completed",)]
    (row,) = site.ask(
        "SELECT session_id, subject, operator, status, video_path, video_size_bytes,"
        ' video_duration_s, "start" <= "end" FROM sessions'
    )
    assert row == (
        "s-1", "Ω. Muster", "M. Curie", "completed", "/data/s-1/recording.mp4.enc", 2**40, 0.3, 1
    )  # fmt: skip
    (row,) = site.ask(
        "SELECT status, state, frames_offered, frames_written, gaps, balanced, duration_s, problem"
        " FROM recordings"
    )
    assert [*row[:2], int(row[2]), int(row[3]), *row[4:]] == [
        "completed", "sealed", U64, U64 - 3, 1, 1, 0.1 + 0.2, ""
    ]  # fmt: skip
    assert site.ask("SELECT kind, text, host_ns FROM marks")[0][:2] == ("laser_on", "50 W")
    assert site.ask("SELECT path, state FROM parts") == [("/data/s-1/0", "sealed")]
    kinds = [row[0] for row in site.ask("SELECT kind FROM audit ORDER BY seq")]
    assert kinds == ["init", "start", "seal", "stop"]
    assert {row[0] for row in site.ask("SELECT operator FROM audit WHERE seq > 1")} == {"M. Curie"}
    assert holds(site)


def test_the_status_follows_the_recording(site: Site) -> None:
    """In progress, paused, in progress, then completed, or aborted when it ended early."""
    course: list[tuple[Fact, str]] = [
        (began(), "in_progress"),
        (Paused(recording_id=ID), "paused"),
        (Resumed(recording_id=ID), "in_progress"),
        (stopped("camera"), "aborted"),
        (Paused(recording_id=ID), "aborted"),
    ]
    for fact, status in course:
        write(site, fact)
        assert site.ask("SELECT status FROM recordings") == [(status,)]
        assert site.ask("SELECT status FROM sessions") == [(status,)]


@pytest.mark.parametrize(
    ("problem", "state", "status"),
    [
        ("", "sealed", "completed"),
        ("", "recovered", "completed"),
        ("", "incomplete", "aborted"),
        ("", "failed", "aborted"),
        ("disk", "sealed", "aborted"),
    ],
)
def test_how_it_ended(site: Site, problem: str, state: str, status: str) -> None:
    """Completed is: asked to stop, and every part closed."""
    write(site, began(), stopped(problem, state))
    assert site.ask("SELECT status FROM recordings") == [(status,)]


def test_several_recordings_of_one_session(site: Site) -> None:
    """The session runs from the first to the last, with the sums; its status is the newest's."""
    other = bytes(16)
    write(site, began(), stopped(), began("/data/s-1/2.mp4.enc", other))
    query = 'SELECT status, video_path, video_size_bytes, "end" FROM sessions'
    assert site.ask(query) == [("in_progress", "/data/s-1/recording.mp4.enc", 2**40, None)]


def test_an_earlier_recording_that_was_recovered(site: Site) -> None:
    """Its row said that it runs; the part that was closed later ends it."""
    write(site, began())
    write(site, closed(0, "recovered", earlier=True))
    assert site.ask("SELECT status, state FROM recordings") == [("aborted", "recovered")]
    assert site.ask("SELECT kind FROM audit WHERE seq = 3") == [("recovery",)]
    assert site.ask("SELECT status FROM sessions") == [("aborted",)]


def test_a_recording_whose_beginning_nobody_told(site: Site) -> None:
    """Rows are made as far as they are known, under the recording's own id."""
    write(site, closed(3))
    assert site.ask("SELECT session_id, path FROM recordings") == [(ID.hex(), "/data/s-1/3")]
    assert site.ask("SELECT part_index, state FROM parts WHERE part_index = 3") == [(3, "sealed")]


def test_further_parts(site: Site) -> None:
    """A part that was opened has its row before it is closed."""
    write(site, began(), PartOpened(recording_id=ID, part=1, path=Path("/data/s-1/1")))
    rows = site.ask("SELECT part_index, state FROM parts ORDER BY 1")
    assert rows == [(0, "open"), (1, "open")]


def loss(first: int | None, last: int | None, label: LossClass = LossClass.RING_FULL) -> Loss:
    return Loss(label, U64, first, last, -(2**63), U64)


def test_extreme_ids_and_times(site: Site) -> None:
    """Every integer that a recording can hold is kept exactly."""
    rows = (loss(0, U64), loss(None, None), loss(-(2**63), -1, LossClass.WRITE_ERROR))
    write(site, began(), FramesLost(recording_id=ID, losses=rows))
    found = site.ask(
        'SELECT "class", epoch, first_id, last_id, first_host_ns, last_host_ns FROM losses'
        " ORDER BY number"
    )
    whole = [[row[0], *(None if n is None else int(n) for n in row[1:])] for row in found]
    assert whole == [
        ["ring_full", U64, 0, U64, -(2**63), U64],
        ["ring_full", U64, None, None, -(2**63), U64],
        ["write_error", U64, -(2**63), -1, -(2**63), U64],
    ]


def test_ten_thousand_losses_are_few_rows(site: Site) -> None:
    """Neighbours are one range; what cannot be joined is bounded, and counted."""
    write(site, began())
    for start in range(0, 10_000, 100):
        run = tuple(loss(n, n) for n in range(start, start + 100))
        write(site, FramesLost(recording_id=ID, losses=run))
    assert site.ask("SELECT count(*) FROM losses") == [(100,)]
    scattered = tuple(loss(n, n) for n in range(0, 2 * MAX_LOSSES, 2))
    write(site, FramesLost(recording_id=ID, losses=scattered))
    assert site.ask("SELECT count(*) FROM losses") == [(MAX_LOSSES,)]
    assert site.ask("SELECT losses_left_out FROM recordings") == [(100,)]


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\udcff", "'; DROP TABLE audit; --", "🙂\u202e", ""]
)
def test_hostile_texts(site: Site, text: str) -> None:
    """Whatever a controller or a file says is stored, and is stored again without trouble."""
    session = {"session_id": f"s{text}", "subject": text, "operator": text}
    fact = Began(recording_id=ID, path=Path("/x") / (text or "y"), source=text, session=session)
    mark = Marked(recording_id=ID, host_ns=0, kind=text, text=text * 5000)
    for _ in range(2):
        write(site, fact, mark, stopped())
    assert site.ask("SELECT count(*) FROM sessions") == [(1,)]
    assert holds(site)


# --- a catalog that does not answer -----------------------------------------------------------


def whole_recording(fed: CatalogFeed) -> None:
    for fact in (began(), Paused(recording_id=ID), Resumed(recording_id=ID), closed(), stopped()):
        fed.put(fact)


def recorded(site: Site) -> bool:
    kinds = [row[0] for row in site.ask("SELECT kind FROM audit ORDER BY seq")]
    return kinds == ["init", "start", "pause", "resume", "seal", "stop"] and holds(site)


def test_a_catalog_that_is_missing(empty_site: Site) -> None:
    """The engine is told at once, facts wait, and are written in order when there is one."""
    with feeding(empty_site) as (fed, news):
        assert "catalog init" in news.wait("catalog_behind").text
        whole_recording(fed)
        assert fed.waiting == 5
        initialize(empty_site.place)
        assert news.wait("catalog_back").details == {"missed": 0}
        assert fed.waiting == 0
    assert recorded(empty_site)


@contextmanager
def locked(site: Site) -> Iterator[None]:
    """Somebody else writes, and does not come to an end."""
    if site.kind == "sqlite":
        assert site.place.path is not None
        with closing(sqlite3.connect(site.place.path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
        return
    import psycopg

    assert site.place.url is not None
    url = site.place.url
    dsn = f"host={url.query['host']} port={url.query['port']} user=tests dbname={url.database}"
    with psycopg.connect(dsn) as connection:
        connection.execute("LOCK TABLE audit")
        yield


def test_a_catalog_that_another_connection_keeps_locked(site: Site) -> None:
    """For longer than the feed waits: behind, then back, with every row in its order."""
    with feeding(site) as (fed, news):
        with locked(site):
            whole_recording(fed)
            news.wait("catalog_behind")
            fed.put(Marked(recording_id=ID, host_ns=1, kind="x"))
            assert fed.waiting == 6
        news.wait("catalog_back")
    assert recorded(site)


def test_a_catalog_that_is_locked_at_the_end(site: Site) -> None:
    """The end waits no longer than it is told to, and says what is not written."""
    with locked(site), feeding(site) as (fed, news):
        whole_recording(fed)
        news.wait("catalog_behind")
        assert fed.close(LONG_S) == 5
    assert site.ask("SELECT count(*) FROM recordings") == [(0,)]


def test_a_server_that_is_stopped_in_the_middle(
    postgresql: postgres.Server, tmp_path: Path
) -> None:
    """What was written stays, what came meanwhile follows when the server is back."""
    assert postgresql  # otherwise this is skipped
    programs = postgres.programs()
    assert programs is not None
    server = postgres.Server(programs)
    try:
        server.start()
        site = postgresql_site(server, tmp_path / "k")
        initialize(site.place)
        with feeding(site) as (fed, news):
            fed.put(began())
            wait_for(lambda: fed.waiting == 0)
            server.stop()
            for fact in (Paused(recording_id=ID), Resumed(recording_id=ID), closed(), stopped()):
                fed.put(fact)
            news.wait("catalog_behind")
            assert fed.waiting == 4
            server.start()
            news.wait("catalog_back")
        assert recorded(site)
    finally:
        server.remove()


def test_a_call_that_hangs_is_noticed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even while the thread itself is stuck in the database, the engine hears of it."""
    monkeypatch.setattr(feed, "BEHIND_S", 0.0)
    go = threading.Event()
    write_now = CatalogFeed._write

    def stuck(self: CatalogFeed, facts: list[Fact]) -> object:
        go.wait(LONG_S)
        return write_now(self, facts)

    monkeypatch.setattr(CatalogFeed, "_write", stuck)
    with feeding(site) as (fed, news):
        fed.put(began())
        wait_for(lambda: fed.look() or not news.silent)
        assert "answer in time" in news.wait("catalog_behind").text
        assert fed.close(0.0) == 1  # the end does not wait for it either
        go.set()
    assert site.ask("SELECT count(*) FROM recordings") == [(1,)]


def test_a_full_queue_leaves_out_what_files_have_first(empty_site: Site) -> None:
    """Marks and losses go first, then everything; how much is said when it is back."""
    with feeding(empty_site) as (fed, news):
        news.wait("catalog_behind")
        for _ in range(feed.CROWDED):
            fed.put(Paused(recording_id=ID))
        fed.put(Marked(recording_id=ID, host_ns=0, kind="x"))
        fed.put(FramesLost(recording_id=ID, losses=(loss(1, 1),)))
        assert fed.waiting == feed.CROWDED
        for _ in range(feed.CAPACITY):
            fed.put(Resumed(recording_id=ID))
        assert fed.waiting == feed.CAPACITY
        fed._facts.clear()  # so that the test is short
        fed.put(began())
        initialize(empty_site.place)
        back = news.wait("catalog_back")
        assert back.details == {"missed": 2 + feed.CROWDED}
        assert "catalog sync" in back.text
    assert empty_site.ask("SELECT count(*) FROM recordings") == [(1,)]


def test_a_fact_that_the_database_refuses(site: Site) -> None:
    """It is left out, and nothing that comes behind it waits for it."""
    impossible = PartClosed(
        recording_id=ID, part=2**70, path=Path("/x"), state="sealed", generation=1,
        chunk_count=1, header_mac=b"", commitment=b"",
    )  # fmt: skip
    with feeding(site) as (fed, _):
        for fact in (began(), impossible, closed(), stopped()):
            fed.put(fact)
        assert fed.close(LONG_S) == 1
    assert site.ask("SELECT status FROM recordings") == [("completed",)]
    assert [row[0] for row in site.ask("SELECT kind FROM audit ORDER BY seq")] == [
        "init", "start", "seal", "stop"
    ]  # fmt: skip


def test_another_catalogs_key(site: Site, tmp_path: Path) -> None:
    """With a key that is not the chain's nothing is written, and the engine is told why."""
    other = sqlite_site(tmp_path / "other.sqlite").place
    initialize(other)
    site.place.audit_key.write_bytes(other.audit_key.read_bytes())
    with feeding(site) as (fed, news):
        fed.put(began())
        assert "not authentic" in news.wait("catalog_behind").text
    assert site.ask("SELECT count(*) FROM recordings") == [(0,)]


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    for _ in range(int(LONG_S / 0.01)):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came to be")
