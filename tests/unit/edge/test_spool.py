"""The spool by example; its promises over all interleavings are in tests/property."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from schemas.errors import ConfigurationError
from streams.edge import Capture, Spool, SpooledDrop, SpooledFrame

ROOM_FOR_THREE = 3 * (1000 + 512)
OFFERER = """
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from streams.edge import Capture, Spool
with Spool(Path(sys.argv[1]), device_id="gate-1", limit_bytes=10**8) as spool:
    while True:
        spooled = spool.offer(Capture(image=bytes(5000), captured_at_us=0))
        print(spooled.sequence, flush=True)
"""


def capture() -> Capture:
    return Capture(image=bytes(1000), captured_at_us=5, passage_id="p1", labels={"lane": "2"}, traceparent="t")


def opened(folder: Path, drop: str = "oldest", limit_bytes: int = ROOM_FOR_THREE, device_id: str = "gate-1") -> Spool:
    return Spool(folder, device_id=device_id, limit_bytes=limit_bytes, drop=drop)  # type: ignore[arg-type]


def everything(spool: Spool) -> list[object]:
    taken = spool.take(-1, frames=100, size_bytes=10**9)
    return [e.sequence if isinstance(e, SpooledFrame) else (e.sequence, e.last_sequence, e.reason) for e in taken]


def test_a_frame_comes_out_as_it_went_in(tmp_path: Path) -> None:
    """All that was offered of a frame is handed out again, also after the spool was opened anew."""
    with opened(tmp_path) as spool:
        spool.offer(capture())
    with opened(tmp_path) as spool:
        (entry,) = spool.take(-1, frames=9, size_bytes=9)
    assert entry == SpooledFrame(
        sequence=0,
        captured_at_us=5,
        image=bytes(1000),
        media_type="image/jpeg",
        passage_id="p1",
        labels={"lane": "2"},
        traceparent="t",
    )


def test_oldest_drops_the_oldest_and_notes_one_range(tmp_path: Path) -> None:
    """A full spool gives up its oldest frames, and remembers them as one range in their place."""
    with opened(tmp_path) as spool:
        kept = [spool.offer(capture()) for _ in range(8)]
        assert [k.dropped_count for k in kept if k] == [0, 0, 0, 1, 1, 1, 1, 1]
        assert everything(spool) == [(0, 4, "spool_full_oldest_first"), 5, 6, 7]


def test_newest_refuses_the_new(tmp_path: Path) -> None:
    """With the policy newest a full spool keeps what it has, and the refused ones are a range behind it."""
    with opened(tmp_path, "newest") as spool:
        kept = [spool.offer(capture()) for _ in range(5)]
        assert [k.kept for k in kept if k] == [True, True, True, False, False]
        assert everything(spool) == [0, 1, 2, (3, 4, "spool_full_newest_refused")]


def test_block_takes_nothing_until_there_is_room(tmp_path: Path) -> None:
    """With the policy block a full spool takes nothing and gives no number away, until something is removed."""
    with opened(tmp_path, "block") as spool:
        for _ in range(3):
            spool.offer(capture())
        assert spool.offer(capture()) is None
        spool.remove((0,))
        again = spool.offer(capture())
        assert again is not None
        assert again.sequence == 3


def test_what_was_handed_out_is_never_dropped(tmp_path: Path) -> None:
    """Frames that may be with the gateway stay, also after a restart: then the new frame is the one that is refused."""
    with opened(tmp_path) as spool:
        for _ in range(3):
            spool.offer(capture())
        spool.take(-1, frames=3, size_bytes=10**9)
    with opened(tmp_path) as spool:
        spool.offer(capture())
        assert everything(spool) == [0, 1, 2, (3, 3, "spool_full_newest_refused")]


def test_a_notice_that_was_handed_out_does_not_grow(tmp_path: Path) -> None:
    """Frames dropped after a notice was handed out are a notice of their own, so that no two speak of the same frame."""
    with opened(tmp_path) as spool:
        for _ in range(5):
            spool.offer(capture())
        (notice,) = spool.take(-1, frames=1, size_bytes=10**9)
        assert notice == SpooledDrop(sequence=0, last_sequence=1, reason="spool_full_oldest_first")
        spool.offer(capture())
        assert everything(spool) == [
            (0, 1, "spool_full_oldest_first"),
            (2, 2, "spool_full_oldest_first"),
            3,
            4,
            5,
        ]


def test_a_frame_larger_than_the_spool_is_given_up(tmp_path: Path) -> None:
    """A frame that can never fit is noted as given up, whatever the policy, and costs no other frame."""
    for drop in ("oldest", "newest", "block"):
        with opened(tmp_path / drop, drop) as spool:
            spool.offer(capture())
            spooled = spool.offer(Capture(image=bytes(ROOM_FOR_THREE), captured_at_us=0))
            assert spooled is not None
            assert not spooled.kept
            assert everything(spool) == [0, (1, 1, "larger_than_spool")]


def test_kill_9_while_offering_loses_nothing(tmp_path: Path) -> None:
    """Every frame whose offer returned before a kill -9 is in the spool afterwards, and no number is given out again."""
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", OFFERER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        last = -1
        for line in process.stdout:
            last = int(line)
            if last % 40 == 39:
                break
        os.kill(process.pid, signal.SIGKILL)
        told = [last, *(int(line) for line in process.stdout.read().splitlines())]
        process.wait()
        with opened(tmp_path, limit_bytes=10**8) as spool:
            assert spool.next_sequence > told[-1]
            assert spool.contents().frames_count == spool.next_sequence


def test_a_spool_belongs_to_one_device_and_one_process(tmp_path: Path) -> None:
    """A second opening is refused while the first lasts, and so is another device's at any time."""
    with opened(tmp_path), pytest.raises(ConfigurationError, match="another process"):
        opened(tmp_path)
    with pytest.raises(ConfigurationError, match="belongs to device gate-1"):
        opened(tmp_path, device_id="gate-2")
    opened(tmp_path).close()


def test_a_damaged_spool_is_refused(tmp_path: Path) -> None:
    """A file that is not a spool is refused by name, and not overwritten."""
    (tmp_path / "frames.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        opened(tmp_path)
    assert (tmp_path / "frames.sqlite").read_bytes() == b"not a database" * 100


def test_a_full_disk_is_an_error_and_the_spool_goes_on(tmp_path: Path) -> None:
    """When the disk takes no more, the offer fails as OSError; nothing of it is kept, and later offers work."""
    with opened(tmp_path, limit_bytes=10**9) as spool:
        spool.offer(capture())
        database = spool._tables._db  # the only way to a full disk without one
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OSError, match="cannot be written"):
            spool.offer(Capture(image=bytes(100_000), captured_at_us=0))
        database.execute("PRAGMA max_page_count = 1000000")
        again = spool.offer(capture())
        assert again is not None
        assert (again.sequence, spool.contents().frames_count) == (1, 2)
        assert isinstance(database, sqlite3.Connection)


@contextmanager
def switching_often() -> Iterator[None]:
    """Threads take turns a thousand times as often as usual, so that a race shows itself."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual_s)


def test_threads_may_offer_take_and_remove_at_once(tmp_path: Path) -> None:
    """With one thread offering and two sending, nothing handed out is dropped, and the books balance in the end."""
    offered, acknowledged, noticed, missing = 1500, set[int](), set[int](), []
    done = Event()

    def send(spool: Spool) -> None:
        while not done.is_set():
            for entry in spool.take(-1, frames=2, size_bytes=10**6):
                if isinstance(entry, SpooledFrame):
                    acknowledged.add(entry.sequence)
                else:
                    noticed.update(range(entry.sequence, entry.last_sequence + 1))
                spool.remove((entry.sequence,))

    with opened(tmp_path) as spool, ThreadPoolExecutor(2) as threads, switching_often():
        sending = [threads.submit(send, spool) for _ in range(2)]
        for _ in range(offered):
            spool.offer(capture())
        done.set()
        for one in sending:
            one.result()
        for entry in spool.take(-1, frames=10**6, size_bytes=10**9):
            rest = {entry.sequence} if isinstance(entry, SpooledFrame) else set(range(entry.sequence, entry.last_sequence + 1))
            missing += rest
        assert acknowledged.isdisjoint(noticed)
        assert acknowledged | noticed | set(missing) == set(range(offered))
        assert spool._used == spool.contents().bytes_used


def test_a_disk_that_fails_at_the_first_step_is_told_as_one(tmp_path: Path) -> None:
    """Whatever part of a commit fails: an OSError, nothing half done, and the next try is taken."""
    with opened(tmp_path) as spool:
        spool._tables._db.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(tmp_path / "frames.sqlite", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OSError, match="cannot be written"):
            spool.offer(capture())
        other.execute("ROLLBACK")
        other.close()
        assert spool.offer(capture()) is not None
        assert everything(spool) == [0]
