"""How events and bytes get in and out: ports and their adapters, the doors (gRPC, HTTP), and the SDK.

`from streams import FrameProducer, ResultConsumer` is the SDK for programs that send frames or use results. They are
imported when first asked for, so that `import streams` costs nothing. `processors` act on what arrives here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.sdk import FrameProducer, FrameReceipt, ReceivedResult, ResultConsumer

__all__ = ["FrameProducer", "FrameReceipt", "ReceivedResult", "ResultConsumer"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'streams' has no attribute {name!r}")
    return getattr(import_module("streams.sdk"), name)
