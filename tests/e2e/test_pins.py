"""A release reads with the content that it pins: frames that another one would read wait, and are then read once."""

import json
from typing import Any

from schemas.catalogue import INFERENCES
from schemas.codec import decode
from tests.e2e.deployment import ALL, R1, R2, Deployment, devices_on_every_partition, troubles, until

DEVICES = devices_on_every_partition()
FALSE_DIGEST = "0" * 64


def read_by(deployment: Deployment) -> list[tuple[str, str]]:
    """What became of each accepted frame: the event and its release."""
    events = [
        decode(record.value, INFERENCES, deployment.schemas)
        for partition, end in deployment.ends(INFERENCES).items()
        for record in deployment.log.read(INFERENCES, partition, 0, end)
    ]
    return [(type(event).__name__, event.release) for event in events]


def pins_found(deployment: Deployment) -> Any:
    """What `hindsight doctor` says of the pins."""
    findings = json.loads(deployment.hindsight("doctor", "--format", "json").stdout)
    return next(finding for finding in findings if finding["name"] == "pins")


def test_frames_wait_for_the_content_that_is_pinned(deployment: Deployment) -> None:
    """A release that pins another digest than answers is in force: nothing is recorded in its name, the worker and the doctor
    say why, and promoting the right release has every frame read exactly once."""
    (worker,) = deployment.start_workers(ALL)
    deployment.put_in_force(R1)
    deployment.publish(DEVICES, 2)
    deployment.drain()
    deployment.register(R2, digests={"detection": FALSE_DIGEST})
    deployment.promote(R2)
    deployment.publish(DEVICES, 3)
    asked = {"release": R2, "outcome": "not_pinned"}
    until(
        lambda: worker.counted("hindsight_inference_call_seconds_count", **asked) >= 4,
        within_s=90,
        what="several answers of what is not pinned",
    )
    assert {release for _, release in read_by(deployment)} == {R1}
    assert f"{R2} pins detection to {FALSE_DIGEST}" in worker.last_lines()
    found = pins_found(deployment)
    assert (found["verdict"], found["seen"].startswith(f"{R2} pins detection:4 to 0000")) == ("fail", True)
    deployment.promote(R1)
    deployment.drain()
    assert troubles(deployment) == []
    assert read_by(deployment) == [("InferenceCompleted", R1)] * len(deployment.frames)
    assert pins_found(deployment)["verdict"] == "ok"
