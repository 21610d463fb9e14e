"""What does the whole way of a frame cost beside its models? Frames on Kafka to results on Kafka, and Triton called directly.

    python -m tests.benchmarks.engine_overhead          writes docs/reference/engine-overhead.{json,md,svg}

The same images go to the same ensemble of real models on the same Triton, with the same number of calls in flight: by way of a
worker with all its processors, and by a plain client that has the bytes in memory and throws the answers away. In turns.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tritonclient.grpc.aio import InferenceServerClient

from schemas.catalogue import FRAMES, RESULTS
from schemas.events import FrameCaptured, ResultDerived
from streams.events import events_of
from streams.names import Namespace
from streams.publishing import IncomingFrame
from streams.triton_errors import text_input
from tests.benchmarks.chart import COLORS, Line, chart
from tests.benchmarks.replay_speed import CHECKOUT, _machine, say
from tests.conftest import SERVERS
from tests.e2e.deployment import ALL, R1, Deployment, devices_on_every_partition, until
from tests.e2e.pictures import picture
from topology import models
from topology.demo.media import fetch_media
from topology.demo.sources import gate_frames
from topology.stack.local import LocalStack
from triton_models.repository import build_repository
from triton_models.weights import fetch_weights

Json = dict[str, Any]
DEVICES = devices_on_every_partition()
KINDS = {"gate": "frames of the demo's gate, 640x480", "small": "pictures of 224x160"}
_GOAL, _GOAL_MS = 0.95, 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="24,48,96", help="frames at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", type=int, default=40, help="frames one at a time, for the latency")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs" / "reference")
    asked = parser.parse_args()
    sizes = [int(size) for size in asked.sizes.split(",")]
    with _deployment() as deployment:
        calls = deployment.settings.worker.concurrent_calls
        found: Json = {
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": _machine(),
            "calls": calls,
            "kinds": {},
        }
        for kind, images in (("gate", _gate()), ("small", [picture(n) for n in range(60)])):
            deployment.images = images
            _through(deployment, 8)  # what is made at first use is not measured
            rounds = {size: [_round(deployment, size, calls) for _ in range(asked.rounds)] for size in sizes}
            say(kind, rounds)
            found["kinds"][kind] = {
                "sizes": [{"frames": size, "rounds": taken} for size, taken in rounds.items()],
                "alone": _alone(deployment, asked.alone),
            }
    (asked.out / "engine-overhead.json").write_text(json.dumps(found, indent=1) + "\n")
    (asked.out / "engine-overhead.md").write_text(page(found))
    (asked.out / "engine-overhead.svg").write_text(plot(found))


class Showing(Deployment):
    """A deployment whose devices send the frames of `images`, over and over."""

    images: Sequence[bytes] = (picture(0),)

    def next_frame(self, device: str, passage: int = 0) -> IncomingFrame:
        frame = super().next_frame(device, passage)
        return replace(frame, image=self.image(device, frame.sequence))

    def image(self, device: str, number: int) -> bytes:
        """The frame that a device sends as its so-manieth one; no two are alike, as with cameras."""
        return self.images[number % len(self.images)] + f"{device} {number}".encode()


def _gate() -> Sequence[bytes]:
    """Frames as cameras at a gate take them."""
    media = fetch_media(CHECKOUT / ".hindsight" / "media", say=say)
    return [frame.image_jpeg for frame in gate_frames(media, count=8, frames_per_passage=6)]


@contextmanager
def _deployment() -> Iterator[Showing]:
    """Servers and real models of its own, and one worker with the first release in force."""
    with TemporaryDirectory(prefix="hindsight-bench-", ignore_cleanup_errors=True) as home:
        servers = CHECKOUT / ".hindsight" / "servers"
        with LocalStack(Path(home) / "stack", servers=SERVERS, ports="free", servers_folder=servers, owned=True) as stack:
            fetch_weights(servers / "weights", say=say)
            build_repository(stack.layout.model_repository, servers / "weights")
            folder = Path(home) / "deployment"
            folder.mkdir()
            with closing(Showing(stack, Namespace("overhead"), folder)) as deployment:
                deployment.start_workers(ALL)
                deployment.put_in_force(R1)
                yield deployment


def _round(deployment: Showing, size: int, calls: int) -> Json:
    """Frames a second of both, one right after the other."""
    images = [deployment.image(device, 1000 + n) for n in range(size // len(DEVICES)) for device in DEVICES]
    direct_s = asyncio.run(_direct(deployment, images, calls))
    return {"direct": round(size / sum(direct_s), 3), "hindsight": round(size / _through(deployment, size), 3)}


async def _direct(deployment: Showing, images: Sequence[bytes], calls: int) -> list[float]:
    """Seconds from the first call to the last answer, as one item; or, with one call at a time, those of each."""
    client = InferenceServerClient(deployment.endpoints[0])
    parameters = json.dumps(dict(models.release_parameters()), sort_keys=True).encode()
    waiting = list(enumerate(images))
    took: list[float] = []

    async def call() -> None:
        while waiting:
            _, image = waiting.pop(0)
            began = time.monotonic()
            await client.infer(R1, [text_input("IMAGE", image), text_input("PARAMETERS", parameters)], model_version="1")
            took.append(time.monotonic() - began)

    began = time.monotonic()
    await asyncio.gather(*(call() for _ in range(calls)))
    whole = time.monotonic() - began
    await client.close()
    return took if calls == 1 else [whole]


def _through(deployment: Showing, size: int) -> float:
    """Seconds from the first frame on Kafka to the last result there, on the broker's clock."""
    deployment.publish(DEVICES, size // len(DEVICES))
    waits = _ways(deployment)
    return (max(result for _, result in waits[-size:]) - min(frame for frame, _ in waits[-size:])) / 1000


def _ways(deployment: Showing) -> list[tuple[int, int]]:
    """When each published frame and its result were appended, in milliseconds; waits until all have one."""
    wanted = set(deployment.frames)
    until(lambda: deployment.appended(RESULTS) >= len(wanted), within_s=300, what="a result of each frame")
    came, went = {}, {}
    for topic, kind, into in ((FRAMES, FrameCaptured, came), (RESULTS, ResultDerived, went)):
        for partition in deployment.log.partitions(topic):
            for record, event in events_of(deployment.log, deployment.schemas, topic, partition):
                if isinstance(event, kind):
                    into[event.frame.frame_id] = record.appended_at_ms
    return [(came[frame], went[frame]) for frame in deployment.frames]


def _alone(deployment: Showing, frames: int) -> Json:
    """Milliseconds for a frame when nothing else is under way: directly, and from frame to result on Kafka; in turns."""
    direct_ms: list[float] = []
    for number in range(frames):
        (frame_id,) = deployment.publish(["alone"], 1)
        until(lambda: deployment.appended(RESULTS) >= len(deployment.frames), within_s=60, what=f"the result of {frame_id}")
        deployment.drain()
        direct_ms += [1000 * s for s in asyncio.run(_direct(deployment, [deployment.image("alone", number)], 1))]
        if number % 20 == 19:
            say(number + 1, "frames alone")
    through_ms = [result - frame for frame, result in _ways(deployment)[-frames:]]
    added = [a - b for a, b in zip(through_ms, direct_ms, strict=True)]
    return {
        "direct_ms": [round(ms, 1) for ms in direct_ms],
        "hindsight_ms": through_ms,
        "added_median_ms": round(statistics.median(added), 1),
        "added_p95_ms": round(sorted(added)[int(0.95 * len(added))], 1),
    }


def page(found: Json) -> str:
    """The reference page, in Markdown."""
    machine = found["machine"]
    lines = [
        "<!-- Made by tests/benchmarks/engine_overhead.py: run `make bench-engine`. -->",
        "",
        "# What the engine costs beside its models",
        "",
        f"Measured {found['made_at']} on {machine['cores']} cores ({machine['processor']}), Python {machine['python']}, "
        f"with a load of {machine['load_average_1m']} from other work. Real Kafka, registry, Redis, S3 and Triton with the real "
        "models (their CPU forms) on the same machine.",
        "",
        "Frames on Kafka to results on Kafka by one worker with all its processors, beside a client that calls the same "
        f"ensemble with the same images and the same {found['calls']} calls in flight, and keeps nothing. In turns; medians. "
        f"The aim is {_GOAL}. Models, servers and worker share the cores, so what the engine takes, the models lack.",
        "",
        '<img src="engine-overhead.svg" width="720" alt="Share of the direct rate against the number of frames at once.">',
        "",
        "| frames | at once | called directly, a second | by way of Hindsight | ratio |",
        "|---|---|---|---|---|",
    ]
    for kind, words in KINDS.items():
        for one in found["kinds"][kind]["sizes"]:
            direct, ours = ([r[name] for r in one["rounds"]] for name in ("direct", "hindsight"))
            lines.append(f"| {words} | {one['frames']} | {_spread(direct)} | {_spread(ours)} | {_ratio(one):.2f} |")
    lines += [
        "",
        "A ratio is the median of the rounds' own ratios: in each round one ran right after the other. The first frame's way and "
        "the last one's are in it, so it grows with the number of frames.",
        "",
        "## One frame at a time",
        "",
        "From the frame's append to its result's, on the broker's clock, beside one direct call with the same image right after. "
        f"The aim is to add less than {_GOAL_MS:g} ms at the median.",
        "",
        "| frames | called directly | by way of Hindsight | added | 95 of 100 within |",
        "|---|---|---|---|---|",
    ]
    for kind, words in KINDS.items():
        alone = found["kinds"][kind]["alone"]
        direct, ours = (statistics.median(alone[name]) for name in ("direct_ms", "hindsight_ms"))
        lines.append(
            f"| {words} | {direct:.1f} ms | {ours:.1f} ms | {alone['added_median_ms']:.1f} ms | {alone['added_p95_ms']:.1f} ms |"
        )
    return "\n".join(lines) + "\n"


def _spread(rates: list[float]) -> str:
    return f"{statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})"


def _ratio(one: Json) -> float:
    return statistics.median(r["hindsight"] / r["direct"] for r in one["rounds"])


def plot(found: Json) -> str:
    """Share of the direct rate against frames at once, as SVG."""
    lines = [
        Line(
            name=words.split(",")[0], points=[(one["frames"], _ratio(one)) for one in found["kinds"][kind]["sizes"]], color=color
        )
        for (kind, words), color in zip(KINDS.items(), COLORS, strict=False)
    ]
    return chart(lines, x_name="frames at once", y_name="share of the rate of direct calls")


if __name__ == "__main__":
    main()
