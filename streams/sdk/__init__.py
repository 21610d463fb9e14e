"""The SDK: what a Python program needs to send frames and to use results, straight on the topics.

    from streams import FrameProducer, ResultConsumer

Both are synchronous, typed and safe to leave: `FrameProducer` returns when the broker holds a frame, `ResultConsumer`
gives every result at least once and drops the repeats. Programs in other languages need nothing of this: see
docs/how-to/consume-results.md.
"""

from streams.sdk.consumer import ResultConsumer
from streams.sdk.producer import FrameProducer
from streams.sdk.values import FrameReceipt, ReceivedResult

__all__ = ["FrameProducer", "FrameReceipt", "ReceivedResult", "ResultConsumer"]
