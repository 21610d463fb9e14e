"""Runs all tests in two processes side by side: those on the real servers, which mostly wait, and the rest, which computes.

    python -m tests.halves [arguments of pytest]

Prints what the first says as it comes, then what the other said, and at the end both summaries. Ends with 1 when either failed.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ON_SERVERS = ("tests/contract", "tests/docs", "tests/e2e", "tests/fuzz")
APART = ("tests/chaos", "tests/property", "tests/simulation", "tests/unit")


def main(arguments: list[str]) -> int:
    known = {str(path) for path in Path("tests").iterdir() if any(path.rglob("test_*.py"))}
    assert known == {*ON_SERVERS, *APART}, f"a folder of tests is in neither half: {known ^ {*ON_SERVERS, *APART}}"
    with tempfile.TemporaryFile("w+") as told:
        apart = subprocess.Popen(_pytest(APART, arguments), stdout=told, stderr=subprocess.STDOUT)
        on_servers = subprocess.Popen(_pytest(ON_SERVERS, arguments), stdout=subprocess.PIPE)
        assert on_servers.stdout is not None, "its output is asked for"
        end = b""
        while piece := os.read(on_servers.stdout.fileno(), 65536):
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()
            end = (end + piece)[-10_000:]
        failed = [on_servers.wait() != 0, apart.wait() != 0]
        told.seek(0)
        print(f"\n--- {' '.join(APART)}")
        print(told.read(), end="")
    print(f"--- {' '.join(ON_SERVERS)}")
    print(end.decode("utf-8", "replace").strip().rpartition("\n")[2], flush=True)
    return int(any(failed))


def _pytest(folders: tuple[str, ...], arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", *folders, *arguments]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
