"""Draws three pictures of a container at a gate into a folder: python docs/tutorial/draw_container.py FOLDER

The container's code ends in a check digit that stands in a box of its own, as it does on many real ones.
"""

import sys
from pathlib import Path

import numpy as np

from topology.demo.gate import build_scene

CONCRETE = np.full((480, 640, 3), (150, 140, 130), np.uint8)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scene = build_scene(seed=2, index=5, backgrounds=[CONCRETE])
    for number in range(3):
        frame = scene.frame(number, frames_count=3)
        (folder / f"{number}.jpg").write_bytes(frame.image_jpeg)
    print(f"three pictures of {frame.code} in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
