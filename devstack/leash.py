"""Becomes another program that ends when its parent does, whatever ended the parent.

    python -I -S leash.py PARENT_PID SIGNAL UID:GID|- COMMAND ...

A program of its own because what it does must happen between fork and exec: Python
code there (subprocess's `preexec_fn`) can deadlock in a parent that has threads. Uses
the standard library only, without `site`, so that it costs about 15 ms.

The kernel sends the signal when the *thread* that started the child ends (prctl(2),
PR_SET_PDEATHSIG): start processes from the main thread. Elsewhere than on Linux there
is no such call; there a killed supervisor leaves its children.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, signal, account, *command = sys.argv[1:]
    # Dropping privileges clears the death signal, so this comes first.
    if account != "-":
        uid, gid = (int(part) for part in account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(1)  # the parent died before the call above
    try:
        os.execv(command[0], command)
    except OSError as err:
        sys.exit(f"cannot run {command[0]}: {err.strerror}")


if __name__ == "__main__":
    main()
