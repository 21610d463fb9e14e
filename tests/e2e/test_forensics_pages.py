"""The pages that explain, ask why nothing, and bisect, run as they stand on a live log with the tutorial's incident on it."""

import asyncio
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streams.publishing import IncomingFrame
from streams.records import system_clock
from tests.docs.console import Shell, follow
from tests.e2e.conftest import Deploy
from tests.e2e.deployment import ALL, CHECKOUT, R1, R2, Deployment
from topology import wiring

PAGES = ("explain-a-result.md", "why-nothing.md", "bisect.md")
ONE_TRUCK, MANY_TRUCKS = "gate-9", "gate-7"


def publish(deployment: Deployment, device: str, images: list[bytes], first: int, passages: list[str]) -> None:
    """As many frames of each passage through the SDK's publisher."""
    each = len(images) // len(passages)

    async def send() -> None:
        appender = wiring.appender(deployment.settings)
        publisher = wiring.publisher(deployment.settings, to=appender, channel="sdk")
        for number, image in enumerate(images, start=first):
            frame = IncomingFrame(
                device_id=device,
                session_id="monday",
                sequence=number,
                captured_at_us=system_clock(),
                image=image,
                passage_id=passages[(number - first) // each],
                labels={"lane": "2"},
            )
            await publisher.publish(frame)
        await asyncio.to_thread(appender.close)

    asyncio.run(send())


@pytest.fixture
def incident(deploy: Deploy, tmp_path: Path) -> Deployment:
    """A truck, or six, read by the first release, then the same pictures by the second, which loses the boxed check digit."""
    pictures = tmp_path / "pictures"
    subprocess.run([sys.executable, CHECKOUT / "docs" / "tutorial" / "draw_container.py", pictures], check=True, cwd=CHECKOUT)
    images = [p.read_bytes() for p in sorted(pictures.iterdir())] * 4
    deployment = deploy()
    deployment.start_workers(ALL)
    deployment.put_in_force(R1)
    publish(deployment, ONE_TRUCK, images[:7], 0, ["truck-1"])
    publish(deployment, MANY_TRUCKS, images, 0, [f"truck-{n}" for n in range(6)])
    deployment.drain(within_s=120)
    deployment.register(R2)
    deployment.promote(R2)
    publish(deployment, MANY_TRUCKS, images, 12, [f"truck-{n}" for n in range(6, 12)])
    publish(deployment, ONE_TRUCK, images[:7], 7, ["truck-2"])
    deployment.drain(within_s=120)
    return deployment


@pytest.mark.slow
def test_the_pages_do_what_they_say(incident: Deployment) -> None:
    """Every command of the three pages ends as the page says and prints what the page says."""
    moment = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
    environment = {**incident.environment(), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "MOMENT": moment}
    for name in PAGES:
        with Shell(incident.folder, environment) as shell:
            follow(CHECKOUT / "docs" / "how-to" / name, shell, timeout_s=120)
