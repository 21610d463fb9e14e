"""Faust's Kafka transport, mended: going back to what was committed also holds for a partition that never had a commit.

Records that arrive while a rebalance is under way are thrown away by Faust, which then seeks every partition to its
committed offset. aiokafka leaves a partition without one where it is, behind the records thrown away: they were never
seen again, by nobody, until the worker restarted. Here such a partition goes back to its beginning, which is where its
group starts. `agents` builds its apps on this.
"""

from collections.abc import Mapping
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.transport.drivers import aiokafka as driver


async def rewind(consumer: AIOKafkaConsumer) -> Mapping[TopicPartition, int | None]:
    """Seek every assigned partition to its committed offset, or to its beginning; gives the committed ones."""
    committed: Mapping[TopicPartition, int | None] = await consumer.seek_to_committed()
    never = [at for at, offset in committed.items() if not offset and at in consumer.assignment()]
    if never:
        await consumer.seek_to_beginning(*never)
    return committed


class RewindingApp(faust.App):
    """A Faust app on the mended transport."""

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)


class _Thread(driver.AIOKafkaConsumerThread):
    async def seek_to_committed(self) -> Any:
        return await self.call_thread(rewind, self._ensure_consumer())


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    Consumer = _Consumer
