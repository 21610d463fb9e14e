"""What every Kafka client of ours shares: where librdkafka's own lines go.

librdkafka retries for ever and says so many times a second. What matters of that reaches people as our own errors and
as lines that say who waits for what; its own lines are there for debugging (logger `librdkafka`, silent by default).
"""

import logging

LOGGER = logging.getLogger("librdkafka")
LOGGER.setLevel(logging.CRITICAL)
