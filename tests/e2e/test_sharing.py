"""Several workers share the partitions, come and go."""

from pathlib import Path

from tests.e2e.deployment import ALL, Deployment, devices_on_every_partition, troubles, until

DEVICES = devices_on_every_partition(each=2)
HANGING = str(Path(__file__).with_name("hanging_worker.py"))
_RECORDS = "hindsight_records_total"


def test_a_second_worker_takes_its_share_and_a_stopped_one_leaves_it(running: Deployment) -> None:
    """Both of two workers make progress; one stopped in mid-flow ends with 0 at once, and the other does all the rest."""
    first = running.living()[0]
    (second,) = running.start_workers(ALL)
    before = first.counted(_RECORDS, processor="infer"), second.counted(_RECORDS, processor="infer")

    def both_worked() -> bool:
        running.publish(DEVICES, 1)
        now = first.counted(_RECORDS, processor="infer"), second.counted(_RECORDS, processor="infer")
        return now[0] > before[0] and now[1] > before[1]

    until(both_worked, within_s=60, what="records counted by both workers")
    running.publish(DEVICES, 8)
    assert not running.is_drained(), "the worker is stopped when all is done"
    assert first.terminate(within_s=15) == 0, first.last_lines()
    running.drain(within_s=90)
    assert troubles(running) == []


def test_a_worker_that_hangs_while_it_stops_ends_all_the_same(deployment: Deployment) -> None:
    """SIGTERM ends a worker within a bounded time, whatever a library does with its threads then."""
    worker = deployment.start_worker(launcher=(HANGING,))
    until(worker.is_ready, within_s=60, what="the worker ready")
    assert worker.terminate(within_s=15) == 0, worker.last_lines()
