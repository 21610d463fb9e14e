"""The demo: real photographs, a real video and a rendered gate, streamed through the whole stack.

`media` fetches the pictures; `paintwork`, `container` and `gate` render a gate whose truth is known; `sources` turns
all of them into frames for three devices. Nothing here is needed to run Hindsight on your own cameras.
"""

from topology.demo.gate import GateFrame, passages
from topology.demo.media import Media, fetch_media
from topology.demo.sources import SourceFrame, gate_frames, photograph_frames, yard_frames

__all__ = [
    "GateFrame",
    "Media",
    "SourceFrame",
    "fetch_media",
    "gate_frames",
    "passages",
    "photograph_frames",
    "yard_frames",
]
