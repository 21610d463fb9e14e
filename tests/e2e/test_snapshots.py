"""Workers take snapshots while frames flow, and a look back from them is the look back from the log."""

import json
import random

from processors.lookback.at import device_at
from processors.lookback.known import known_at
from processors.snapshots.announcing import announced
from processors.snapshots.reading import Snapshots
from processors.views.catalogue import VIEWS
from schemas.catalogue import ASSESSMENTS, RESULTS
from schemas.envelope import rfc3339
from schemas.plain import canonical_json, to_plain
from streams.blobs import object_name
from streams.partitioning import partition_of
from tests.e2e.conftest import Deploy
from tests.e2e.deployment import ALL, Deployment, devices_on_every_partition, troubles, until
from topology import wiring

DEVICES = devices_on_every_partition()[:2]
OFTEN = "[snapshots]\nevery_events = 8\nevery_s = 2.0\nlook_every_s = 0.3\nused_from_events = 0\n"
PARTS = {
    "frames": "device_frames",
    "results": "device_results",
    "features": "device_features",
    "alerts": "alerts",
    "releases": "releases",
}


def snapshots_of(deployment: Deployment) -> Snapshots:
    return Snapshots(deployment.log, deployment.schemas, wiring.blob_store(deployment.settings))


def test_workers_take_snapshots_and_looks_back_begin_at_them(deploy: Deploy) -> None:
    """Two workers, one killed midway: at many moments the answer is the same with snapshots and without.

    A damaged snapshot is passed over, and the answer says so.
    """
    deployment = deploy()
    (deployment.folder / "hindsight.toml").write_text(OFTEN)
    first, _ = deployment.start_workers(ALL, ALL)
    deployment.put_in_force()
    deployment.publish(DEVICES, 12, passage=6)
    until(lambda: deployment.appended(RESULTS) >= 8, within_s=120, what="eight results")
    first.kill()
    deployment.publish(DEVICES, 12, passage=6)
    deployment.drain(within_s=180)
    assert troubles(deployment) == []

    def taken(view: str) -> int:
        places = {partition_of(d.encode(), len(deployment.log.partitions(VIEWS[view].topic))) for d in DEVICES}
        return min(len(list(announced(deployment.log, deployment.schemas, view, place))) for place in places)

    until(lambda: min(taken("device_frames"), taken("results_by_frame")) >= 2, within_s=60, what="snapshots of both devices")
    _same_at_many_moments(deployment)
    checked = deployment.hindsight("snapshots", "check", "--format", "json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {one["verdict"] for one in json.loads(checked.stdout)} == {"equal"}
    _damaged_is_said(deployment)


def _same_at_many_moments(deployment: Deployment) -> None:
    rng = random.Random(8)
    place = partition_of(DEVICES[0].encode(), len(deployment.log.partitions(ASSESSMENTS)))
    records = deployment.log.read(ASSESSMENTS, place, 0, deployment.log.bounds(ASSESSMENTS, place).end)
    times = [r.appended_at_ms for r in records]
    used = 0
    for _ in range(40):
        at_us = (rng.choice(times) + rng.choice((-1, 0, 1, 1500))) * 1000
        view, key = VIEWS[rng.choice(("device_frames", "device_results", "alerts"))], rng.choice(DEVICES)
        without = known_at(deployment.log, deployment.schemas, view, key, at_us)
        found = known_at(deployment.log, deployment.schemas, view, key, at_us, snapshots=snapshots_of(deployment))
        assert (canonical_json(found.state), found.read_up_to, found.notes) == (
            canonical_json(without.state),
            without.read_up_to,
            (),
        )
        used += found.snapshot is not None
    assert used > 10
    pipeline = deployment.settings.pipeline.name
    whole = device_at(deployment.log, deployment.schemas, device_id=DEVICES[0], pipeline=pipeline, at_us=times[-1] * 1000)
    answer = deployment.hindsight("at", rfc3339(times[-1] * 1000), "--device", DEVICES[0], "--format", "json")
    known = json.loads(answer.stdout)
    assert known["snapshots"]
    assert {part: known[part] for part in PARTS} == {part: to_plain(whole)[part] for part in PARTS}


def _damaged_is_said(deployment: Deployment) -> None:
    view, key = VIEWS["device_frames"], DEVICES[0]
    place = partition_of(key.encode(), len(deployment.log.partitions(view.topic)))
    newest = next(iter(snapshots_of(deployment).names(view, place, [])))
    wiring.blobs_bucket(deployment.settings).remove(object_name(newest.sha256))
    answer = deployment.hindsight("at", "now", "--device", key)
    assert answer.returncode == 0
    assert f"the snapshot of device_frames {place} at {newest.offset} is passed over" in answer.stdout
