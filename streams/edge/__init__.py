"""What runs beside a camera: sources of frames, a spool on disk, and a client that sends it to the gateway."""

from streams.edge.client import EdgeClient, Progress
from streams.edge.connection import Pace
from streams.edge.entries import Capture, Contents, Spooled, SpooledDrop, SpooledFrame
from streams.edge.spool import DropPolicy, Spool

__all__ = [
    "Capture",
    "Contents",
    "DropPolicy",
    "EdgeClient",
    "Pace",
    "Progress",
    "Spool",
    "Spooled",
    "SpooledDrop",
    "SpooledFrame",
]
