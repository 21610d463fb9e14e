"""The job as one writes it with Quix Streams, at least once: a function for each record, and a topic for what follows.

python by_quix.py TOLD GROUP

A function is called for one record after another, so a process has one call in flight.
"""

import tempfile
from typing import Any

from job import GROUP, HEADERS, TOLD, answered
from quixstreams import Application, message_context

with tempfile.TemporaryDirectory() as folder:
    app = Application(
        broker_address=TOLD["kafka"],
        consumer_group=GROUP,
        auto_offset_reset="earliest",
        processing_guarantee="at-least-once",
        producer_extra_config={"enable.idempotence": True, "acks": "all"},
        state_dir=folder,
        loglevel="WARNING",
    )
    source = app.topic(TOLD["from"], value_deserializer="bytes", key_deserializer="bytes")
    target = app.topic(TOLD["to"], value_serializer="bytes", key_serializer="bytes")

    def work(value: bytes) -> bytes:
        at: Any = message_context()
        return answered(value, at.topic, at.partition, at.offset)[1]

    app.dataframe(source).apply(work).set_headers(lambda *_: list(HEADERS.items())).to_topic(target)
    app.run()
