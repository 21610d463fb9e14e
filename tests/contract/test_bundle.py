"""Bundles of real servers: made from Kafka, registry and S3, asked with none of them, loaded into another namespace."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from processors.lookback.at import device_at
from schemas.catalogue import DEAD_LETTERS, FRAMES, RELEASES, RESULTS, TOPICS
from schemas.errors import ConsistencyError, ContractError
from schemas.plain import to_plain
from streams.bundle import open_bundle, verify_bundle
from streams.kafka_import import KafkaImport
from streams.names import Namespace
from streams.past import Past
from streams.records import LEFT_OUT, Outgoing, Record, system_clock
from tests.bundles import PIPELINE, World, bundled, everything
from topology import wiring
from topology.bundle_import import import_bundle
from topology.configuration import stack_layer
from topology.settings import Settings
from topology.stack.local import LocalStack

CHECKOUT = Path(__file__).resolve().parents[2]
DEVICES = ("gate-1", "gate-2", "gate-3")
Live = tuple[Past, Settings]


class Broker:
    """What `World` writes to, on real servers: an appender that waits, and the log."""

    def __init__(self, settings: Settings) -> None:
        self._log, self._appender = wiring.event_log(settings), wiring.appender(settings)

    def append_now(self, outgoing: Outgoing) -> Any:
        found = self._appender.try_enqueue(outgoing)
        assert found is not None
        return found.result(30)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def close(self) -> None:
        self._appender.close()
        self._log.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A small run on real servers, and the moments between which its second half lies."""

    settings: Settings
    world: World
    middle_us: int
    end_us: int

    def past(self) -> Past:
        return Past(log=self.world.log, schemas=self.world.schemas, blobs=self.world.blobs, source="live")


def settings_of(stack: LocalStack, namespace: Namespace) -> Settings:
    return Settings(**{**stack_layer(stack.layout.home), "namespace": namespace.prefix})


@pytest.fixture
def recorded(stack: LocalStack, namespace: Namespace) -> Iterator[Recorded]:
    """Frames of three devices all the way, in two halves; one image is lost, one record is no event and has its dead letter."""
    settings = settings_of(stack, namespace)
    wiring.prepare(settings)
    broker = Broker(settings)
    world = World(blobs=wiring.blob_store(settings), schemas=wiring.schemas(settings))  # type: ignore[arg-type]
    world.log = broker  # type: ignore[assignment]
    for sequence in range(3):
        for device in DEVICES:
            world.pass_by(device, sequence)
    late, at = world.captured("gate-1", 90)
    middle_us = _next_millisecond()
    world.accepted(late, at)
    for sequence in range(3, 6):
        for device in DEVICES:
            world.pass_by(device, sequence)
    world.raw(Outgoing(topic=FRAMES, key=b"gate-2", value=b"no event", headers=(("a", b"1"), ("a", b""), ("b", None))))  # type: ignore[arg-type]
    letter = (("hindsight_dlq_topic", FRAMES.encode()), ("hindsight_dlq_partition", b"0"), ("hindsight_dlq_offset", b"0"))
    world.raw(Outgoing(topic=DEAD_LETTERS, key=FRAMES.encode(), value=b"no event", headers=letter, partition=0))
    yield Recorded(settings=settings, world=world, middle_us=middle_us, end_us=_next_millisecond())
    broker.close()


def _next_millisecond() -> int:
    """A moment in a millisecond of its own, on the clock of this machine, which is the broker's too."""
    now_ms = system_clock() // 1000
    while system_clock() // 1000 <= now_ms + 1:
        pass
    return (now_ms + 1) * 1000


def test_a_bundle_of_everything_is_the_log(recorded: Recorded, tmp_path: Path) -> None:
    """Topic, partition, offset, append time, key, value and headers of every record, every image, every schema."""
    path = tmp_path / "all.hsb"
    manifest = bundled(recorded.past(), path, to_us=recorded.end_us)
    assert verify_bundle(path).whole
    live = everything(recorded.world.log)
    assert sum(len(records) for records in live.values()) >= 70
    with open_bundle(path) as past:
        assert everything(past.log) == live
        for schema in manifest.schemas:
            assert past.schemas.schema_of(schema.id) == recorded.world.schemas.schema_of(schema.id)
    assert manifest.blobs.count == 19
    assert manifest.unknown_schema_ids.ids == ()


def test_at_says_the_same_with_no_server(recorded: Recorded, tmp_path: Path) -> None:
    """`hindsight at --bundle` in a process whose settings point nowhere, against the live answer, at several moments."""
    path = tmp_path / "half.hsb"
    bundled(recorded.past(), path, from_us=recorded.middle_us, to_us=recorded.end_us, devices=["gate-1", "gate-3"])
    span_us = recorded.end_us - recorded.middle_us
    for device in ("gate-1", "gate-3"):
        for part in (0.4, 0.5, 0.6):
            at_us = recorded.middle_us + int(span_us * part)
            around_s = span_us * 0.3 / 1e6
            live = device_at(
                recorded.world.log,
                recorded.world.schemas,
                device_id=device,
                pipeline=PIPELINE,
                at_us=at_us,
                around_s=around_s,
            )
            moment = _rfc3339(at_us)
            answer = nowhere(
                "at", moment, "--device", device, "--bundle", str(path), "--around", str(around_s), "--format", "json"
            )
            assert answer.returncode == 0, answer.stderr
            found = json.loads(answer.stdout)
            assert {name: found[name] for name in to_plain(live) if name not in ("snapshots", "notes")} == {
                name: value for name, value in to_plain(live).items() if name not in ("snapshots", "notes")
            }
            assert live.frames.accepted_count > 0


def test_what_a_bundle_does_not_hold_is_refused(recorded: Recorded, tmp_path: Path) -> None:
    """A moment outside of the window, a device that was left out: ended with 1, and what it does hold is said."""
    path = tmp_path / "half.hsb"
    bundled(recorded.past(), path, from_us=recorded.middle_us, to_us=recorded.end_us, devices=["gate-1"])
    for moment, device, said in (
        (recorded.middle_us - 1000, "gate-1", "is outside of"),
        (recorded.end_us + 1000, "gate-1", "is outside of"),
        (recorded.end_us, "gate-2", "it holds gate-1"),
    ):
        answer = nowhere("at", _rfc3339(moment), "--device", device, "--bundle", str(path))
        assert (answer.returncode, answer.stdout) == (1, "")
        assert said in answer.stderr


def test_an_import_gives_the_same_log(recorded: Recorded, stack: LocalStack, tmp_path: Path) -> None:
    """Into another namespace: positions, append times, keys, values, headers, images and answers, of all and of a window."""
    for name, window in (("all", (0, None)), ("half", (recorded.middle_us, ["gate-1"]))):
        path = tmp_path / f"{name}.hsb"
        bundled(recorded.past(), path, from_us=window[0], to_us=recorded.end_us, devices=window[1])
        target = settings_of(stack, Namespace(f"i{os.urandom(4).hex()}"))
        done = import_bundle(path, target, most_filled=1000, progress=lambda what, done, of: None)
        assert done.renumbered == ()
        log, blobs = wiring.event_log(target), wiring.blob_store(target)
        with open_bundle(path) as past:
            held, loaded = everything(past.log), {p: _not_filled(r) for p, r in everything(log).items()}
            assert loaded == held
            assert done.records_count == sum(len(records) for records in held.values())
            for topic in TOPICS:
                for partition in past.log.partitions(topic):
                    for record in held[topic, partition]:
                        at_ms = record.appended_at_ms
                        if record.offset >= past.log.bounds(topic, partition).earliest:
                            assert log.offset_at(topic, partition, at_ms) == past.log.offset_at(topic, partition, at_ms)
            known = [
                device_at(which, schemas, device_id="gate-1", pipeline=PIPELINE, at_us=recorded.end_us, around_s=0.01)
                for which, schemas in ((past.log, past.schemas), (log, wiring.schemas(target)))
            ]
            assert known[0] == known[1]
            for frame in (known[0].frames.last_frame,):
                assert frame is not None
                assert blobs.get(frame.blob) == past.blobs.get(frame.blob)
        with pytest.raises(ContractError, match="is not empty"):
            import_bundle(path, target, most_filled=1000, progress=lambda what, done, of: None)
        log.close()


def _not_filled(records: list[Record]) -> list[Record]:
    return [r for r in records if r.headers != ((LEFT_OUT, b"1"),)]


def test_an_import_that_needs_too_much_filling_is_refused(recorded: Recorded, stack: LocalStack, tmp_path: Path) -> None:
    """Before anything is made: offsets far from 0 cost empty records, and somebody has to allow them."""
    path = tmp_path / "half.hsb"
    bundled(recorded.past(), path, from_us=recorded.middle_us, to_us=recorded.end_us)
    target = settings_of(stack, Namespace(f"i{os.urandom(4).hex()}"))
    with pytest.raises(ContractError, match="empty records"):
        import_bundle(path, target, most_filled=1, progress=lambda what, done, of: None)
    assert len(wiring.topics(target).differences()) == len(TOPICS), "no topic was made"


def test_a_damaged_bundle_is_not_imported(recorded: Recorded, stack: LocalStack, tmp_path: Path) -> None:
    """One flipped byte: nothing is made."""
    path = tmp_path / "half.hsb"
    bundled(recorded.past(), path, to_us=recorded.end_us)
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    target = settings_of(stack, Namespace(f"i{os.urandom(4).hex()}"))
    with pytest.raises(ContractError, match="records/"):
        import_bundle(path, target, most_filled=1000, progress=lambda what, done, of: None)
    assert len(wiring.topics(target).differences()) == len(TOPICS)


def test_topics_that_are_there_and_empty_are_taken(recorded: Recorded, stack: LocalStack, tmp_path: Path) -> None:
    """A stack that was started and never used: its topics are told to keep the recorded times."""
    path = tmp_path / "all.hsb"
    bundled(recorded.past(), path, to_us=recorded.end_us)
    target = settings_of(stack, Namespace(f"i{os.urandom(4).hex()}"))
    wiring.prepare(target)
    import_bundle(path, target, most_filled=0, progress=lambda what, done, of: None)
    log = wiring.event_log(target)
    with open_bundle(path) as past:
        assert everything(log) == everything(past.log)
    log.close()


def test_somebody_else_who_writes_meanwhile_is_found_out(recorded: Recorded, stack: LocalStack) -> None:
    """A record that does not come to lie at its own offset ends the import."""
    target = settings_of(stack, Namespace(f"i{os.urandom(4).hex()}"))
    writing = KafkaImport(wiring.bootstrap_servers(target), wiring.namespace(target))
    writing.prepare({RELEASES: 1})
    wiring_appender = wiring.appender(target)
    found = wiring_appender.try_enqueue(Outgoing(topic=RELEASES, key=b"x", value=b"x", headers=()))
    assert found is not None
    found.result(30)
    wiring_appender.close()
    with pytest.raises(ConsistencyError, match="somebody else"):
        writing.write(RELEASES, 0, iter([(0, 1_790_000_000_000, None)]))


def test_the_whole_way_by_commands(recorded: Recorded, stack: LocalStack, tmp_path: Path) -> None:
    """keygen, create, info, verify and import as a person calls them."""

    def hindsight(*arguments: str, namespace: str = recorded.settings.namespace) -> "subprocess.CompletedProcess[str]":
        return run(arguments, tmp_path, HINDSIGHT_HOME=str(stack.layout.home), HINDSIGHT_NAMESPACE=namespace)

    assert hindsight("bundle", "keygen", "recorder.key").returncode == 0
    made = hindsight(
        *("bundle", "create", "--from", _rfc3339(recorded.middle_us), "--to", "now", "--device", "gate-1", "--device", "gate-2"),
        *("--sign", "recorder.key", "-o", "incident.hsb", "--format", "json"),
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["about"]["devices"] == ["gate-1", "gate-2"]
    again = hindsight("bundle", "create", "--from", "1h ago", "--to", "now", "-o", "incident.hsb")
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
    shown = nowhere("bundle", "info", "incident.hsb", folder=tmp_path)
    assert "gate-1, gate-2" in shown.stdout, shown.stderr
    assert RESULTS in shown.stdout
    whole = nowhere("bundle", "verify", "incident.hsb", "--key", "recorder.key.pub", folder=tmp_path)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert "the key that was asked for" in whole.stdout
    loaded = hindsight("bundle", "import", "incident.hsb", namespace=f"i{os.urandom(4).hex()}")
    assert loaded.returncode == 0, loaded.stderr
    content = bytearray((tmp_path / "incident.hsb").read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "incident.hsb").write_bytes(content)
    damaged = nowhere("bundle", "verify", "incident.hsb", folder=tmp_path)
    assert damaged.returncode == 1
    assert "damaged: 1 findings" in damaged.stdout


def run(arguments: tuple[str, ...], folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HINDSIGHT_")}
    return subprocess.run(
        [sys.executable, "-m", "topology.cli", *arguments],
        cwd=folder,
        env={**ours, "PYTHONPATH": str(CHECKOUT), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def nowhere(*arguments: str, folder: Path = CHECKOUT) -> "subprocess.CompletedProcess[str]":
    """Run a command with settings that lead to no server."""
    closed = {
        "HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "HINDSIGHT_REGISTRY__URL": "http://127.0.0.1:9",
        "HINDSIGHT_REDIS__URL": "redis://127.0.0.1:9/0",
        "HINDSIGHT_S3__ENDPOINT": "127.0.0.1:9",
        "HINDSIGHT_HOME": "/nonexistent",
    }
    return run(arguments, folder, **closed)


def _rfc3339(at_us: int) -> str:
    from schemas.envelope import rfc3339

    return rfc3339(at_us)
