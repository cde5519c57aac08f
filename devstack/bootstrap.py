"""Makes `.venv` from the hash-pinned lock, then runs a module in it.

The one file that runs outside the virtual environment: standard library only, and
it must parse on an old Python so that it can say which one is needed.

    python3 devstack/bootstrap.py            make or refresh the environment
    python3 devstack/bootstrap.py run ...    the same, then `python -m devstack ...`
"""

import hashlib
import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "focus-lock.sha256")
LOCKS = [os.path.join(ROOT, "requirements", name) for name in ("bootstrap.txt", "dev.txt")]
NEEDED = (3, 11)


def fail(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    sys.exit(2)


def wanted_stamp() -> str:
    """Two lines: what the environment's Python is made from, and its packages."""
    base = hashlib.sha256((sys.version + ROOT).encode())  # its scripts hold the folder's path
    packages = hashlib.sha256()
    for path in LOCKS:
        with open(path, "rb") as lock:
            packages.update(lock.read())
    return "%s\n%s\n" % (base.hexdigest(), packages.hexdigest())


def made_stamp() -> str:
    try:
        with open(STAMP) as stamp:
            return stamp.read() if os.path.exists(PYTHON) else ""
    except OSError:
        return ""


def write_stamp(text: str) -> None:
    with open(STAMP, "w") as stamp:
        stamp.write(text)


def step(text: str, command: "list[str]") -> None:
    """Runs a command, with a line that moves while it takes long."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT)
    # Read in a thread: a full pipe would stop the command.
    import threading

    output = []  # type: list[bytes]
    reader = threading.Thread(target=lambda: output.extend(process.stdout or ()), daemon=True)
    reader.start()
    moving = sys.stderr.isatty()
    while True:
        try:
            code = process.wait(timeout=0.2)
            break
        except subprocess.TimeoutExpired:
            if moving:
                seconds = int(time.monotonic() - started)
                bar = "#" * (seconds % 20 + 1)
                sys.stderr.write("\r%-40s [%-20s] %3d s" % (text, bar, seconds))
                sys.stderr.flush()
    reader.join(timeout=5)
    total = time.monotonic() - started
    if total > 2 or moving:
        sys.stderr.write("%s%-40s done in %.0f s%20s\n" % ("\r" if moving else "", text, total, ""))
    if code:
        sys.stderr.write(b"".join(output[-30:]).decode("utf-8", "replace"))
        fail("%s failed: see above. A full disk and a blocked package registry are the usual causes." % text)


def make_environment() -> None:
    wanted, made = wanted_stamp(), made_stamp()
    if made == wanted:
        return
    # With the same interpreter only the packages change: what runs in the environment goes on.
    if made.partition("\n")[0] != wanted.partition("\n")[0]:
        # Not sys.executable: that may be the very environment that is about to be cleared.
        python = getattr(sys, "_base_executable", sys.executable)
        step("Making the virtual environment", [python, "-m", "venv", "--clear", VENV])
        pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--require-hashes"]
        step("Installing the installer", [*pip, "-r", LOCKS[0]])
    write_stamp(wanted.partition("\n")[0])  # so that an interrupted installation is taken up again
    # System certificates: a network with a certificate authority of its own is common in companies.
    uv = [os.path.join(VENV, "bin", "uv"), "pip", "sync", "-q", "--system-certs", "--require-hashes"]
    step("Installing the pinned packages", [*uv, "--python", PYTHON, "--compile-bytecode", LOCKS[1]])
    # The checkout itself, and the stubs under gen/, on the path of this environment.
    site = subprocess.check_output([PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    with open(os.path.join(site.strip(), "focus.pth"), "w") as path:
        path.write("%s\n%s\n" % (ROOT, os.path.join(ROOT, "gen")))
    write_stamp(wanted)


def main() -> None:
    if sys.version_info < NEEDED:
        fail(
            "Python %d.%d or newer is needed, this is %s. Install it, or name it: make run PYTHON=python3.12"
            % (*NEEDED, sys.version.split()[0])
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail("This Python cannot make virtual environments; on Debian: apt-get install python3-venv")
    import fcntl

    with open(os.path.join(ROOT, ".bootstrap.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two `make` at once take turns
        try:
            make_environment()
        except OSError as err:
            fail("Cannot make %s: %s. Free some disk space or check who owns the folder." % (VENV, err.strerror))
    if sys.argv[1:2] == ["run"]:
        os.chdir(ROOT)
        os.execv(PYTHON, [PYTHON, "-m", "devstack", *sys.argv[2:]])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("\nInterrupted; the same command goes on where it stopped.")
