"""Snapshots on real servers: Kafka, the registry and S3. A made log, keepers as a worker runs them, and looks back."""

import asyncio
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from processors.lookback.at import device_at
from processors.lookback.difference import difference
from processors.lookback.known import known_at
from processors.snapshots import checking
from processors.snapshots.announcing import announced
from processors.snapshots.keeping import Keeper, Ports, Rules
from processors.snapshots.manifest import Kept
from processors.snapshots.reading import Snapshots
from processors.snapshots.thinning import Policy
from processors.views.catalogue import VIEWS
from schemas.catalogue import ASSESSMENTS
from schemas.errors import ContractError
from schemas.plain import to_plain
from streams.blobs import S3BlobStore, object_name
from streams.kafka_appender import KafkaAppender
from streams.kafka_log import KafkaEventLog
from streams.names import Namespace
from streams.partitioning import partition_of
from streams.records import Outgoing, system_clock
from tests.benchmarks import made_log
from tests.e2e.deployment import settings_of
from topology import wiring
from topology.blob_check import check_blobs
from topology.settings import Settings
from topology.stack.local import LocalStack

SITE = made_log.Site(frames=600, devices=6)
PLACE = partition_of(SITE.names()[0].encode(), SITE.partitions)
RULES = Rules(every_events=40, every_ms=10**12, policy=Policy())


@dataclass
class Made:
    """A made log on real servers, with everything that looks at it."""

    settings: Settings
    log: KafkaEventLog
    blobs: S3BlobStore
    schemas: Any
    namespace: Namespace
    appender: KafkaAppender

    def ports(self) -> Ports:
        return Ports(log=self.log, schemas=self.schemas, blobs=self.blobs, append=self._append, clock=system_clock)

    def _append(self, outgoing: Outgoing) -> object:
        return asyncio.run(_one(self.appender, outgoing))

    def keep(self, *names: str) -> int:
        """Take everything that is due, of some views or of all; gives the number of snapshots."""
        views, count = [VIEWS[name] for name in names or VIEWS], 0
        for keeper in [Keeper(v, p, self.ports(), RULES) for v in views for p in self.log.partitions(v.topic)]:
            while keeper.step() is not None:
                count += 1
        return count

    def snapshots(self) -> Snapshots:
        return Snapshots(self.log, self.schemas, self.blobs)

    def names(self, view: str, partition: int) -> list[Kept]:
        return list(self.snapshots().names(VIEWS[view], partition, []))

    def damage(self, sha256: str) -> None:
        wiring.blobs_bucket(self.settings).write(object_name(sha256), b"noise", "")

    def lose(self, sha256: str) -> None:
        wiring.blobs_bucket(self.settings).remove(object_name(sha256))

    def cut(self, topic: str, partition: int, before: int) -> None:
        """What retention does: the broker forgets every record before an offset."""
        admin = AdminClient({"bootstrap.servers": wiring.bootstrap_servers(self.settings)})
        (done,) = admin.delete_records([TopicPartition(self.namespace.topic(topic), partition, before)]).values()
        done.result()

    def moments(self, rng: random.Random, count: int) -> list[int]:
        """Moments at which records were appended, and ones between them, in microseconds."""
        times = sorted(
            {
                r.appended_at_ms
                for p in self.log.partitions(ASSESSMENTS)
                for r in self.log.read(ASSESSMENTS, p, 0, self.log.bounds(ASSESSMENTS, p).end)
            }
        )
        return [rng.choice(times) * 1000 + rng.choice((-1, 0, 999, 1000)) for _ in range(count)]


_CHAIN_VIEWS = ("device_frames", "frame_outcomes", "device_results", "device_features", "results_by_frame", "alerts")


async def _one(appender: KafkaAppender, outgoing: Outgoing) -> object:
    return await appender.append(outgoing)


@pytest.fixture
def made(stack: LocalStack, namespace: Namespace) -> Iterator[Made]:
    settings = settings_of(stack, namespace)
    wiring.prepare(settings)
    schemas = wiring.schemas(settings)
    for written, wait_each in ((made_log.releases(), 1), (made_log.chain(SITE), 7)):
        made_log.write(wiring.bootstrap_servers(settings), namespace, schemas, written, wait_each=wait_each)
    one = Made(
        settings=settings,
        log=wiring.event_log(settings),
        blobs=wiring.blob_store(settings),
        schemas=schemas,
        namespace=namespace,
        appender=wiring.appender(settings),
    )
    yield one
    one.appender.close()
    one.log.close()


def device(made: Made, name: str, at_us: int, *, with_snapshots: bool = True, **asked: Any) -> Any:
    return device_at(
        made.log,
        made.schemas,
        device_id=name,
        pipeline=made_log.PIPELINE,
        at_us=at_us,
        around_s=0.05,
        snapshots=made.snapshots() if with_snapshots else None,
        **asked,
    )


def answer(found: Any) -> Any:
    """An answer without how it was found."""
    return to_plain(replace(found, snapshots=(), notes=()))


def test_a_look_back_is_the_same_with_snapshots_and_without(made: Made) -> None:
    """At many moments, for every device: the same answer, from short tails; every snapshot holds against the log."""
    rng = random.Random(5)
    moments = made.moments(rng, 40)
    names = [rng.choice(SITE.names()) for _ in moments]
    without = [answer(device(made, n, at, with_snapshots=False)) for n, at in zip(names, moments, strict=True)]
    assert made.keep() > 40
    used = 0
    for name, at_us, expected in zip(names, moments, without, strict=True):
        found = device(made, name, at_us)
        assert found.notes == ()
        same = answer(found)
        # What was announced since lies on vision.monitoring too.
        assert {k: v for k, v in same.items() if k not in ("read_up_to", "around")} == {
            k: v for k, v in expected.items() if k not in ("read_up_to", "around")
        }
        tails = {s.view: s for s in found.snapshots}
        for read in found.read_up_to:
            if read.topic == ASSESSMENTS and "device_frames" in tails:
                used += 1
                assert read.offset - tails["device_frames"].offset <= RULES.every_events + 7
    assert used > 20
    verdicts = [c for v in VIEWS.values() for p in made.log.partitions(v.topic) for c in _checked(made, v.name, p)]
    assert {c.verdict for c in verdicts} == {checking.EQUAL}
    assert len(verdicts) > 40


def _checked(made: Made, view: str, partition: int) -> list[checking.Checked]:
    return list(checking.check(VIEWS[view], made.log, made.schemas, made.blobs, partition))


def test_keepers_at_once_agree(made: Made) -> None:
    """Four keepers of one partition side by side: nothing breaks, what was taken twice has one id and one digest."""
    view = VIEWS["results_by_frame"]
    with ThreadPoolExecutor(4) as threads:

        def work(_: int) -> None:
            keeper = Keeper(view, PLACE, made.ports(), RULES)
            while keeper.step() is not None:
                pass

        list(threads.map(work, range(4)))
    said: dict[str, set[tuple[int, str]]] = {}
    for one in announced(made.log, made.schemas, view.name, PLACE):
        said.setdefault(one.taken.event_id, set()).add((one.taken.offset, one.taken.digest))
    assert len(said) > 3
    assert all(len(found) == 1 for found in said.values())
    assert {c.verdict for c in _checked(made, view.name, PLACE)} == {checking.EQUAL}


@pytest.mark.parametrize("how", ["damage", "lose"])
def test_a_snapshot_that_cannot_be_read_is_passed_over_and_said(made: Made, how: str) -> None:
    """A manifest or a piece that is damaged or gone leads to an older snapshot, all of them to the start of the log."""
    made.keep("device_results")
    at_us = system_clock()
    name = SITE.names()[0]
    view = VIEWS["device_results"]
    whole = known_at(made.log, made.schemas, view, name, at_us)
    place = whole.read_up_to.partition
    newest, second, *_ = made.names(view.name, place)
    hurt = getattr(made, how)
    for piece in made.snapshots().manifest(newest.ref()).pieces:
        if piece is not None:
            hurt(piece.sha256)
    first = known_at(made.log, made.schemas, view, name, at_us, snapshots=made.snapshots())
    assert (first.state, first.snapshot.offset) == (whole.state, second.offset)
    assert str(newest.offset) in first.notes[0]
    verdicts = {c.offset: c.verdict for c in _checked(made, view.name, place)}
    assert (verdicts[newest.offset], verdicts[second.offset]) == (checking.DAMAGED, checking.EQUAL)
    # The next one is taken all the same, and mends what it can.
    for one in (newest, second):
        hurt(one.sha256)
    again = known_at(made.log, made.schemas, view, name, at_us, snapshots=made.snapshots())
    assert again.state == whole.state
    assert again.snapshot.offset < second.offset
    for one in made.names(view.name, place):
        hurt(one.sha256)
    last = known_at(made.log, made.schemas, view, name, at_us, snapshots=made.snapshots())
    assert (last.state, last.snapshot) == (whole.state, None)
    assert any("passed over" in note for note in last.notes)
    keeper = Keeper(view, place, made.ports(), RULES)
    assert keeper.take_now() is not None
    mended = known_at(made.log, made.schemas, view, name, at_us, snapshots=made.snapshots())
    assert (mended.state, mended.notes) == (whole.state, ())
    assert mended.snapshot is not None


def test_a_log_that_lost_its_start_is_answered_from_snapshots_or_refused(made: Made) -> None:
    """After retention: what a snapshot reaches is the same as before, the rest is refused with the earliest moment."""
    rng = random.Random(9)
    moments = made.moments(rng, 60)
    name = SITE.names()[2]
    view = VIEWS["device_frames"]
    made.keep(view.name)
    whole = {at: known_at(made.log, made.schemas, view, name, at) for at in moments}
    place = next(iter(whole.values())).read_up_to.partition
    kept = sorted(made.names(view.name, place), key=lambda one: one.offset)
    middle = kept[len(kept) // 2]
    cut = middle.offset - 3
    made.cut(ASSESSMENTS, place, cut)
    assert made.log.bounds(ASSESSMENTS, place).earliest == cut
    answered, refused = 0, list[tuple[int, str]]()
    for at_us, expected in whole.items():
        try:
            found = known_at(made.log, made.schemas, view, name, at_us, snapshots=made.snapshots())
        except ContractError as error:
            refused.append((at_us, f"{error} {error.do}"))
            continue
        answered += 1
        assert found.state == expected.state, "an answer that is not the one from before the cut"
    assert answered > 5
    assert len(refused) > 5
    assert all(at_us < middle.known_from_ms * 1000 for at_us, _ in refused)
    assert all("out of reach" in said and "earliest moment" in said for _, said in refused)
    # The moments that the refusal names are answered.
    for one in kept:
        found = known_at(made.log, made.schemas, view, name, one.known_from_ms * 1000, snapshots=made.snapshots())
        assert found.snapshot.offset == one.offset
    with pytest.raises(ContractError, match="out of reach"):
        known_at(made.log, made.schemas, view, name, system_clock())
    for verdict in _checked(made, view.name, place):
        assert verdict.verdict == (checking.INTACT if verdict.offset <= middle.offset else checking.EQUAL)
    # A worker goes on from where it was.
    assert Keeper(view, place, made.ports(), RULES).take_now() is not None


def test_old_snapshots_go_and_the_kept_ones_stay_whole(made: Made) -> None:
    """A thinned chain loses blobs; every snapshot that is still named can be read and holds against the log."""
    view = VIEWS["results_by_frame"]
    made.keep(view.name)
    before = made.names(view.name, PLACE)
    blobs = set(made.blobs.names())
    hour_ms = 3600 * 1000
    later = replace(made.ports(), clock=lambda: system_clock() + 2 * 24 * hour_ms * 1000)
    keeper = Keeper(view, PLACE, later, RULES)
    gone = keeper.thin()
    after = made.names(view.name, PLACE)
    assert gone == len(before) - len(after) > 3
    assert after[0].offset == before[0].offset
    assert len(blobs - set(made.blobs.names())) > gone
    assert {c.verdict for c in _checked(made, view.name, PLACE)} == {checking.EQUAL}
    assert keeper.thin() == 0
    assert check_blobs(made.log, made.blobs, made.schemas, read=False).unreferenced == 0, "blobs that nobody will ever remove"
    rng = random.Random(1)
    for at_us in made.moments(rng, 10):
        key = next(iter(_some_frames(made, PLACE)))
        known = known_at(made.log, made.schemas, view, key, at_us, snapshots=made.snapshots(), partition=PLACE)
        assert known.state == known_at(made.log, made.schemas, view, key, at_us, partition=PLACE).state
        assert known.notes == ()


def _some_frames(made: Made, partition: int) -> list[str]:
    from schemas.codec import decode

    records = made.log.read(ASSESSMENTS, partition, 0, 5)
    return [decode(r.value, ASSESSMENTS, made.schemas).frame.frame_id for r in records]


def test_a_snapshot_of_another_log_is_not_believed(made: Made) -> None:
    """A log that was copied with other positions gets other snapshots: the ones that came along are found out."""
    view = VIEWS["device_results"]
    keeper = Keeper(view, PLACE, made.ports(), RULES)
    taken = keeper.take_now()
    assert taken is not None
    lying = replace(taken, last_sha256="00" * 32)
    keeper._announce(lying)
    name = next(n for n in SITE.names() if partition_of(n.encode(), SITE.partitions) == PLACE)
    found = known_at(made.log, made.schemas, view, name, system_clock(), snapshots=made.snapshots())
    assert found.state == known_at(made.log, made.schemas, view, name, system_clock()).state
    assert any("of another log" in note for note in found.notes)


def test_what_changed_is_the_difference_of_two_looks_back(made: Made) -> None:
    """Every field that differs between two moments is listed with the last event that changed it, and no other field."""
    from processors.lookback.difference import flat

    made.keep("device_results")
    rng, name, view = random.Random(3), SITE.names()[1], VIEWS["device_results"]
    for _ in range(5):
        first, second = sorted(made.moments(rng, 2))
        found = difference(made.log, made.schemas, view, name, first, second, snapshots=made.snapshots())
        states = [flat(to_plain(known_at(made.log, made.schemas, view, name, at).state)) for at in (first, second)]
        fields = {f for f in states[0].keys() | states[1].keys() if states[0].get(f) != states[1].get(f)}
        assert {c.field for c in found.changed} == fields
        for changed in found.changed:
            assert (changed.before, changed.after) == (states[0].get(changed.field), states[1].get(changed.field))
            last = changed.by[-1]
            assert found.read_up_to[0].offset <= last.offset < found.read_up_to[1].offset


def test_the_commands_answer(made: Made, stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hindsight snapshots` and `hindsight at` in each of its forms, as a person types them."""
    from typer.testing import CliRunner

    from topology.cli import build_app

    monkeypatch.setenv("HINDSIGHT_HOME", str(stack.layout.home))
    monkeypatch.setenv("HINDSIGHT_NAMESPACE", made.namespace.prefix)
    monkeypatch.setenv("HINDSIGHT_SNAPSHOTS__USED_FROM_EVENTS", "0")

    def hindsight(*arguments: str, code: int = 0) -> Any:
        done = CliRunner().invoke(build_app(), [*arguments, "--format", "json"], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    assert {(one["view"], one["partition"]) for one in hindsight("snapshots", "take")} >= {(v, PLACE) for v in _CHAIN_VIEWS}
    assert all(c["verdict"] == "equal" for c in hindsight("snapshots", "check"))
    of_something = set(VIEWS) - {"letters"}  # no letter was redriven in the made log
    assert {one["view"] for one in hindsight("snapshots", "list")["snapshots"]} == of_something
    assert hindsight("snapshots", "thin") == {"let_go": 0}
    name = SITE.names()[0]
    known = hindsight("at", "now", "--device", name)
    assert known["answers"] == "as known at"
    assert len(known["snapshots"]) == 5
    assert known["frames"] == hindsight("at", "now", "--device", name, "--no-snapshots")["frames"]
    true = hindsight("at", "2026-10-01T00:00:00Z", "--device", name, "--as-true")
    assert true["answers"].startswith("as true at")
    assert (
        true["late_count"]
        == true["frames"]["accepted_count"]
        + true["frames"]["rejected_count"]
        + sum(true["results"]["outcome_counts"].values())
        + true["results"]["corrected_count"]
        + true["alerts"]["raised_count"]
        + true["alerts"]["cleared_count"]
        + 4
    )
    frame = known["frames"]["last_frame"]["frame_id"]
    assert hindsight("at", "now", "--view", "results_by_frame", "--key", frame)["state"]["counted"] == 1
    assert hindsight("at", "now", "--view", "releases")["state"]["in_force"] == "gate_reader_r2"
    hindsight("at", "1990-01-01T00:00:00Z", "--view", "alerts", "--key", name, code=1)
    changed = hindsight("at", "--diff", "1 day ago", "now", "--device", name)["differences"]
    assert {d["view"] for d in changed if d["changed"]} == {
        "device_frames",
        "device_results",
        "device_features",
        "alerts",
        "releases",
    }
    for arguments in (
        ("at", "now", "--device", name),
        ("at", "--diff", "1 day ago", "now", "--device", name),
        ("snapshots", "list"),
    ):
        assert CliRunner().invoke(build_app(), list(arguments)).exit_code == 0
