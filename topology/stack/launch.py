"""Becomes the program that the supervisor asked for, after tying its life to the supervisor's.

Run as a file: `python -I -S launch.py SUPERVISOR_PID[:SIGNAL] COMMAND ARGUMENT...`. The kernel sends that signal (SIGTERM
when none is named) to the program when the supervisor dies, however it dies, so `kill -9` of the supervisor leaves no
server behind. Done here and not between fork and exec, since the supervisor has threads. Standard library only; it
replaces itself at once.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    supervisor_pid, _, number = sys.argv[1].partition(":")
    argv = sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number or signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(supervisor_pid):
        sys.exit("the supervisor is gone already")
    # Python ignores SIGPIPE, and ignored signals are inherited.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except OSError as exc:
        sys.exit(f"cannot run {argv[0]}: {exc}")


if __name__ == "__main__":
    main()
