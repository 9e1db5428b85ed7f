"""Run in a virtual machine: programs watched one after another, what was told of each kept for who started the machine.

    python -m tests.audit.real.in_machine JOBS

JOBS is a JSON file beside which everything is left, NAME.events (pickled) and NAME.out: a list of {"name", "command",
"env"}, and "client" for a command that is run beside it as soon as somebody listens on TCP port 18515.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cowcatcher.audit.live import launch

PORT = 18515


def listening() -> bool:
    """State 0A in /proc/net/tcp; a trial connection would be taken for the client."""
    lines = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    return any(f":{PORT:04X} " in line and " 0A " in line for line in lines.splitlines())


def call(client: list[str]) -> None:
    end = time.monotonic() + 30
    while not listening() and time.monotonic() < end:
        time.sleep(0.1)
    subprocess.run(client, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def watch(job: dict[str, Any], place: Path) -> None:
    os.environ.update(job.get("env", {}))
    beside = threading.Thread(target=call, args=(job["client"],)) if "client" in job else None
    out = os.open(place / f"{job['name']}.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(out, 1)
    os.close(out)
    if beside:
        beside.start()
    with launch(job["command"]) as watched:
        events = list(watched.events())
        watched.wait()
    if beside:
        beside.join()
    (place / f"{job['name']}.events").write_bytes(pickle.dumps(events))
    for name in job.get("env", {}):
        del os.environ[name]


if __name__ == "__main__":
    jobs = Path(sys.argv[1])
    for one in json.loads(jobs.read_text()):
        watch(one, jobs.parent)
