"""Ten times the load for a while: how far results fall behind, what a second worker takes up, and how long it takes to drain.

    python -m tests.benchmarks.spike          writes docs/reference/spike.{json,md,svg}

Real Kafka, registry, Redis, S3, Triton and workers. The model is the stand-in, which answers after a fixed time, as a card on
another machine does: the bound of a worker is then how many calls it may have in flight, and not this machine's cores. What
became of each frame is counted on the log by ids.
"""

import argparse
import asyncio
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.catalogue import FRAMES, RESULTS
from schemas.events import FrameCaptured, ResultDerived
from streams.events import events_of
from tests.benchmarks.chart import COLORS, Line, chart
from tests.benchmarks.replay_speed import CHECKOUT, _machine, say
from tests.benchmarks.stand_in import StandIn, stand_in
from tests.e2e.deployment import ALL, devices_on_every_partition, troubles
from topology import wiring

Json = dict[str, Any]
_LOOK_S = 0.5
_CALLS = 4
_DELAY_MS = 70.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=6.0, help="frames a second at 1x")
    parser.add_argument("--calm-s", type=float, default=15.0, help="at 1x before the spike, and after it is drained")
    parser.add_argument("--spike-s", type=float, default=30.0)
    parser.add_argument("--help-after-s", type=float, default=12.0, help="when a second worker is added, from the spike's begin")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs" / "reference")
    asked = parser.parse_args()
    with stand_in("spike", HINDSIGHT_WORKER__CONCURRENT_CALLS=str(_CALLS)) as deployment:
        found = {
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": _machine(),
            "rate": asked.rate,
            "calls": _CALLS,
            "delay_ms": _DELAY_MS,
            **_measured(deployment, asked.rate, asked.calm_s, asked.spike_s, asked.help_after_s),
        }
    (asked.out / "spike.json").write_text(json.dumps(found, indent=1) + "\n")
    (asked.out / "spike.md").write_text(page(found))
    (asked.out / "spike.svg").write_text(plot(found))
    if found["troubles"]:
        raise SystemExit("\n".join(found["troubles"]))


class Load:
    """Frames at a rate that may change, from devices on every partition, until it is stopped."""

    def __init__(self, deployment: StandIn, rate: float) -> None:
        self.rate = rate
        self._deployment = deployment
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when everything sent is acknowledged."""
        self._stopped.set()
        self._thread.join()

    async def _run(self) -> None:
        devices, number = devices_on_every_partition(each=2), 0
        appender = wiring.appender(self._deployment.settings)
        publisher = wiring.publisher(self._deployment.settings, to=appender, channel="sdk")
        turns = {device: asyncio.Lock() for device in devices}

        async def send(device: str) -> None:
            async with turns[device]:
                frame = self._deployment.next_frame(device)
                stored = await publisher.store(frame)
                await publisher.append(stored)
                self._deployment.frames.append(stored.frame_id)

        due, sending = time.monotonic(), set[asyncio.Task[None]]()
        while not self._stopped.is_set():
            sending.add(asyncio.create_task(send(devices[number % len(devices)])))
            number, due = number + 1, due + 1 / self.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for task in [t for t in sending if t.done()]:
                sending.discard(task)
                task.result()
        await asyncio.gather(*sending)
        await asyncio.to_thread(appender.close)


def _measured(deployment: StandIn, rate: float, calm_s: float, spike_s: float, help_after_s: float) -> Json:
    deployment.start_workers(ALL)
    deployment.release(_DELAY_MS)
    looks: list[Json] = []
    marks: Json = {}
    load = Load(deployment, rate)
    began = time.monotonic()

    def look(until_s: float | None = None) -> float:
        """Look until a moment from the beginning, or once; gives how far results are behind."""
        while True:
            now_s = time.monotonic() - began
            frames, results = deployment.appended(FRAMES), deployment.appended(RESULTS)
            looks.append({"at_s": round(now_s, 2), "frames": frames, "results": results, "workers": len(deployment.living())})
            if until_s is None or now_s >= until_s:
                return frames - results
            time.sleep(_LOOK_S)

    def mark(name: str) -> float:
        marks[name] = round(time.monotonic() - began, 2)
        say(name, marks[name], looks[-1] if looks else "")
        return float(marks[name])

    load.start()
    look(calm_s)
    load.rate = 10 * rate
    spiked_s = mark("spike")
    look(spiked_s + help_after_s)
    mark("second worker asked for")
    helper = deployment.start_worker(ALL)
    while helper.says_ready() != "ready":
        look()
        time.sleep(_LOOK_S)
    mark("second worker ready")
    look(spiked_s + spike_s)
    load.rate = rate
    ended_s = mark("spike over")
    while look() > rate:
        assert time.monotonic() - began < ended_s + 300, "not drained within 5 minutes"
        time.sleep(_LOOK_S)
    drained_s = mark("drained")
    look(drained_s + calm_s)
    load.stop()
    deployment.drain(within_s=60)
    return {
        "marks": marks,
        "looks": looks,
        "frames": len(deployment.frames),
        "troubles": troubles(deployment),
        "by_worker": [round(worker.counted("hindsight_records_total", processor="infer")) for worker in deployment.living()],
        "waits": _waits(deployment, began),
    }


def _waits(deployment: StandIn, began: float) -> list[Json]:
    """How long frames waited for their results, by the second in which they came, on the broker's clock."""
    zero_ms = time.time() * 1000 - (time.monotonic() - began) * 1000
    came = {e.frame.frame_id: r.appended_at_ms for e, r in _events(deployment, FRAMES) if isinstance(e, FrameCaptured)}
    waits: dict[int, list[float]] = {}
    for event, record in _events(deployment, RESULTS):
        if isinstance(event, ResultDerived):
            at_ms = came[event.frame.frame_id]
            waits.setdefault(int((at_ms - zero_ms) / 1000), []).append((record.appended_at_ms - at_ms) / 1000)
    return [
        {"at_s": s, "median_s": round(statistics.median(w), 3), "longest_s": round(max(w), 3)} for s, w in sorted(waits.items())
    ]


def _events(deployment: StandIn, topic: str) -> Sequence[tuple[Any, Any]]:
    log = deployment.log
    return [
        (event, record)
        for partition in log.partitions(topic)
        for record, event in events_of(log, deployment.schemas, topic, partition)
    ]


def page(found: Json) -> str:
    """The reference page, in Markdown."""
    machine, marks, looks = found["machine"], found["marks"], found["looks"]
    lag = [(one["at_s"], one["frames"] - one["results"]) for one in looks]
    worst_at_s, worst = max(lag, key=lambda one: one[1])
    calm = [w["median_s"] for w in found["waits"] if w["at_s"] < marks["spike"] - 1]
    rates = Counter({name: _rate(looks, *span) for name, span in _spans(marks).items()})
    lines = [
        "<!-- Made by tests/benchmarks/spike.py: run `make bench-spike`. -->",
        "",
        "# A spike of ten times the load",
        "",
        f"Measured {found['made_at']} on {machine['cores']} cores ({machine['processor']}), Python {machine['python']}, "
        f"with a load of {machine['load_average_1m']} from other work. Real Kafka, registry, Redis, S3, Triton and workers "
        f"on the same machine. The model is a stand-in that answers after {found['delay_ms']:g} ms, as a card elsewhere does; a "
        f"worker has at most {found['calls']} calls in flight.",
        "",
        f"{found['rate']:g} frames a second, then ten times as many, then {found['rate']:g} again. A second worker was asked for "
        f"{marks['second worker asked for'] - marks['spike']:.0f} s into the spike.",
        "",
        '<img src="spike.svg" width="720" alt="Frames that wait for their result, over time.">',
        "",
        "| | |",
        "|---|---|",
        f"| frames published, each with exactly one counted result, views equal to the log | {found['frames']:,}"
        f"{'' if not found['troubles'] else ', and NOT so'} |",
        f"| results a second, calm | {rates['calm']:.1f} |",
        f"| results a second in the spike, one worker | {rates['alone']:.1f} |",
        f"| results a second in the spike, two workers | {rates['together']:.1f} |",
        f"| second worker ready after | {marks['second worker ready'] - marks['second worker asked for']:.1f} s |",
        f"| most frames that waited | {worst:,}, {worst_at_s - marks['spike']:.0f} s into the spike |",
        f"| drained, from the end of the spike | {marks['drained'] - marks['spike over']:.1f} s |",
        f"| usual wait for a result | {statistics.median(calm):.2f} s |",
        f"| longest wait for a result | {max(w['longest_s'] for w in found['waits']):.1f} s |",
        f"| frames read by each worker | {', '.join(f'{n:,}' for n in found['by_worker'])} |",
    ]
    return "\n".join(lines) + "\n"


def _spans(marks: Json) -> dict[str, tuple[float, float]]:
    return {
        "calm": (2.0, marks["spike"]),
        "alone": (marks["spike"] + 2, marks["second worker asked for"]),
        "together": (marks["second worker ready"] + 3, max(marks["spike over"], marks["drained"] - 1)),
    }


def _rate(looks: list[Json], begin_s: float, end_s: float) -> float:
    """Results a second between two moments."""
    inside = [one for one in looks if begin_s <= one["at_s"] <= end_s]
    first, last = inside[0], inside[-1]
    return float((last["results"] - first["results"]) / max(last["at_s"] - first["at_s"], 1e-9))


def plot(found: Json) -> str:
    """Frames that wait, over time, as SVG."""
    lag = [(one["at_s"], max(0, one["frames"] - one["results"])) for one in found["looks"]]
    names = {"spike": "10x", "second worker ready": "second worker", "spike over": "1x", "drained": "drained"}
    marks = [(found["marks"][name], words) for name, words in names.items()]
    line = Line(name="frames that wait", points=lag, color=COLORS[0], has_dots=False)
    return chart([line], x_name="seconds", y_name="frames that wait for their result", marks=marks)


if __name__ == "__main__":
    main()
