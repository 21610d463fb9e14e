"""Who answered in production at 100 random moments of a year of 1,000 changes, on a real broker, held against brute force.

`make bench-releases` runs it and prints each figure. The topic's records have the times of that year: it is made with
CreateTime for this, where the product's own has the broker's clock.
"""

import statistics
import sys
import time
import uuid

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from processors.lookback.production import in_production
from schemas.catalogue import RELEASES
from schemas.codec import FixedSchemas
from streams.kafka_log import KafkaEventLog
from streams.memory import MemoryBlobStore
from streams.names import Namespace
from streams.past import Past
from tests.releases_year import PIPELINE, Expected, Year, moments

_TOPIC = {"message.timestamp.type": "CreateTime", "retention.ms": "-1", "segment.ms": str(400 * 86_400_000)}
CHANGES, ASKED, SEED = 1000, 100, 20261123


def fill(bootstrap_servers: str, namespace: Namespace, year: Year) -> None:
    """A topic of its own with the year's records at their times."""
    name = namespace.topic(RELEASES)
    topic = NewTopic(name, num_partitions=1, replication_factor=1, config=_TOPIC)
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([topic])[name].result(30)
    refused: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap_servers, "enable.idempotence": True})
    for one in year.said:
        out = one.outgoing
        producer.produce(
            name,
            value=out.value,
            key=out.key,
            headers=list(out.headers),
            timestamp=one.at_us // 1000,
            on_delivery=lambda error, _: refused.append(error) if error is not None else None,
        )
    assert producer.flush(60) == 0
    assert not refused, refused[0]


def main() -> int:
    """Print the times, and end with 1 when an answer differs."""
    from topology.configuration import load
    from topology.wiring import bootstrap_servers

    servers, namespace = bootstrap_servers(load().settings), Namespace(f"bench-{uuid.uuid4().hex[:8]}")
    schemas = FixedSchemas()
    year = Year(SEED, CHANGES, schemas)
    fill(servers, namespace, year)
    log = KafkaEventLog(servers, namespace)
    past = Past(log=log, schemas=schemas, blobs=MemoryBlobStore(), source="a year")
    began = time.perf_counter()
    in_production(past, PIPELINE, year.expected[-1].at_us)
    print(f"the first question, which connects: {(time.perf_counter() - began) * 1000:.1f} ms; then")
    times_ms, different = [], 0
    for at_us in moments(SEED, ASKED):
        began = time.perf_counter()
        found = in_production(past, PIPELINE, at_us)
        times_ms.append((time.perf_counter() - began) * 1000)
        wanted = year.at(at_us)
        seen = Expected(
            at_us=wanted.at_us,
            release=found.release,
            digest=found.steps[0].digest if found.steps else None,
            threshold=found.parameters.get("text_confidence"),
            on_trial=(found.rollout.release, found.rollout.percent) if found.rollout is not None else None,
        )
        different += seen != wanted
    log.close()
    admin = AdminClient({"bootstrap.servers": servers})
    admin.delete_topics([namespace.topic(RELEASES)])[namespace.topic(RELEASES)].result(30)
    print(f"{len(year.said)} records of {CHANGES} changes; {ASKED} moments, {different} answers differ from brute force")
    ordered = sorted(times_ms)
    print(f"median {statistics.median(ordered):.1f} ms, 95 of 100 {ordered[94]:.1f} ms, longest {ordered[-1]:.1f} ms")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
