"""Files that appear whole or not at all, formats by name, and errors that say what to do."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from processors.export.formats import COUNTED, MODULES, export_of, format_of
from processors.export.images import with_images
from processors.export.window import Window
from processors.export.writing import Choices, Output, Tally
from schemas.errors import BlobStoreUnavailableError, ConfigurationError
from schemas.types import BlobRef
from streams.memory import MemoryBlobStore
from streams.past import Past
from tests.unit.export.exporting import exported
from tests.unit.export.recorded import Recorded, a_run
from topology.cli.export import As

LIBRARIES = {"mcap": "mcap.writer", "rrd": "rerun", "mp4": "av", "parquet": "pyarrow.parquet"}


class Away(MemoryBlobStore):
    """A blob store that answers a few times, and then is away."""

    answers = 2

    def get(self, ref: BlobRef) -> bytes:
        self.answers -= 1
        if self.answers < 0:
            raise BlobStoreUnavailableError("away")
        return super().get(ref)


@pytest.mark.parametrize("name", ["mcap", "rrd", "mp4"])
def test_an_export_that_fails_leaves_no_file(name: str, tmp_path: Path) -> None:
    """The blob store goes away in the middle: the error comes through, and nothing lies there, not even a part."""
    recorded = a_run()
    away = Away()
    away.contents = recorded.blobs.contents
    past = Past(log=recorded.log, schemas=recorded.schemas, blobs=away, source="x")
    target = tmp_path / "made" / f"w.{name}"
    window = Window(devices=frozenset({"gate-1"}))
    output = Output(target)
    with pytest.raises(BlobStoreUnavailableError), output:
        export_of(name)(past, window, output, Tally(), Choices())
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_file_is_partial_until_it_is_whole(tmp_path: Path) -> None:
    """While it is written it has another name; what was there before stays until then."""
    target = tmp_path / "w.jsonl"
    target.write_text("old")
    with Output(target, overwrite=True) as output:
        partial = output.partial(target)
        partial.write_text("new")
        assert (partial.name, target.read_text()) == ("w.jsonl.partial", "old")
    assert (target.read_text(), partial.exists(), output.files) == ("new", False, (target,))


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_replaced_unless_told(name: str, tmp_path: Path) -> None:
    """Every format refuses a file that is there, and leaves it as it was."""
    target = tmp_path / f"w.{name}"
    target.write_text("mine")
    with pytest.raises(ConfigurationError, match="is there already"):
        exported(a_run(), name, target, Window(devices=frozenset({"gate-1"})))
    assert (target.read_text(), list(tmp_path.iterdir())) == ("mine", [target])


@pytest.mark.parametrize(("name", "library"), LIBRARIES.items())
def test_a_library_that_is_not_installed_names_the_extra(
    name: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for before anything is written."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError) as refused:
        exported(a_run(), name, tmp_path / f"w.{name}")
    assert "hindsight-recorder[export]" in refused.value.do
    assert list(tmp_path.iterdir()) == []


def test_the_ending_of_a_file_names_the_format() -> None:
    found = {name: format_of(Path(name)) for name in ("a.mcap", "b.RRD", "c.jsonl", "d.ndjson", "e.mp4", "f.parquet")}
    assert list(found.values()) == ["mcap", "rrd", "jsonl", "jsonl", "mp4", "parquet"]
    for name in ("a", "a.avi", ".mcap"):
        with pytest.raises(ConfigurationError, match="no ending that names a format"):
            format_of(Path(name))
    assert set(MODULES) == set(COUNTED) == {kind.value for kind in As}


@pytest.mark.parametrize("name", MODULES)
def test_what_is_counted_is_what_progress_counts_to(name: str, tmp_path: Path) -> None:
    """Progress ends at the number of records of the topics that the format reads."""
    recorded, said = a_run(), []
    tally = Tally(said=said.append)
    with Output(tmp_path / ("w" if name == "mp4" else f"w.{name}")) as output:
        export_of(name)(recorded.past, Window(), output, tally, Choices())
    total = sum(recorded.log.bounds(t, p).end for t in COUNTED[name] for p in recorded.log.partitions(t))
    assert said == list(range(1, total + 1))


@pytest.mark.parametrize("name", MODULES)
def test_an_export_writes_nothing_but_its_files(name: str, tmp_path: Path) -> None:
    """The log and the blobs are afterwards what they were."""
    recorded = a_run()
    before = ({k: list(v) for k, v in recorded.log._records.items()}, dict(recorded.blobs.contents))
    exported(recorded, name, tmp_path / ("w" if name == "mp4" else f"w.{name}"))
    assert ({k: v for k, v in recorded.log._records.items() if v}, recorded.blobs.contents) == before


def test_images_are_fetched_only_a_few_ahead() -> None:
    """A window of any size: no more images lie in memory than a few, and they come in the items' order."""
    recorded = Recorded()
    asked: list[int] = []

    def items() -> Iterator[int]:
        for n in range(100):
            asked.append(n)
            yield n

    refs = [recorded.blobs.put(bytes([n]), "image/png") for n in range(100)]
    found = with_images(items(), recorded.blobs, lambda n: refs[n] if n % 2 else None)
    for n, (item, image) in enumerate(found):
        assert (item, image is not None) == (n, n % 2 == 1)
        assert len(asked) <= n + 10


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """Before anything is read, with what to do, and nothing is left of it."""
    target = tmp_path / f"{'w' * 245}.jsonl"
    with pytest.raises(ConfigurationError, match="cannot be written") as refused, Output(target) as output:
        output.partial(target)
    assert (refused.value.setting, bool(refused.value.do), list(tmp_path.iterdir())) == ("--output", True, [])


def test_a_stream_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    """To rename over /dev/null or a pipe would take it away, and whoever may overwrite files did not ask for that."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigurationError, match="no plain file"), Output(pipe, overwrite=True) as output:
        output.partial(pipe)
    assert pipe.is_fifo()
