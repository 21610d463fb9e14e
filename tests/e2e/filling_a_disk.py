"""Fills a small disk up and gives it room again, and tells what somebody who writes there met; `test_chaos` starts it.

A process of its own, since it takes mounts of its own.
"""

import sys
import time
from pathlib import Path

from tests.chaos import faults


def main(folder: Path) -> None:
    if not faults.own_mounts():
        print("not allowed")
        return
    faults.mount_disk(folder)

    def writes() -> bool:
        try:
            (folder / "mine").write_bytes(bytes(64 * 1024))
        except OSError:
            return False
        finally:
            (folder / "mine").unlink(missing_ok=True)
        return True

    def held() -> None:
        deadline = time.monotonic() + 10
        # What was deleted here came free, and is taken within the turn of the one who fills.
        while writes():
            assert time.monotonic() < deadline, "the disk does not fill up"

    assert writes(), "an empty disk takes a file"
    faults.fill(folder / "ballast", "edge-0", held, print)
    assert writes(), "the disk has room again"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
