"""Record experiments of the lab on this machine: `python docs/_ext/record_lab.py`.

The site plays them back (recorded_lab.py). Nothing is edited: an event is what the experiment sent.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask_offload_lab.experiments import Events, deep
from flask_offload_lab.experiments.poison import poison
from flask_offload_lab.experiments.queueing import queueing
from flask_offload_lab.experiments.race import race
from flask_offload_lab.experiments.storm import storm
from flask_offload_lab.testbed import LabTestbed

RECORDING = Path(__file__).parents[1] / "evidence" / "lab-recording.json"
RATES = (8, 16, 19)


def experiments(testbed: LabTestbed) -> Iterator[tuple[str, dict[str, Any], Events]]:
    """Name and parameters, as the pages send them, and the events."""
    for visitors in (1, 3):
        for pattern in ("sync", "thread", "background"):
            given = {"pattern": pattern, "visitors": visitors}
            yield "race", given, race(testbed, pattern, visitors)
    yield "gil", {}, deep.interpreter_lock(testbed)
    yield "backlog", {}, deep.backlog(testbed)
    yield "kill", {"pattern": "thread"}, deep.lost_work(testbed, "thread")
    yield "kill", {"pattern": "background"}, deep.lost_work(testbed, "background")
    yield "notifier", {}, deep.notifier(testbed)
    yield "lock", {}, deep.worker_lock(testbed)
    for rate in RATES:
        given = {"rate": rate, "work": 200, "threads": 4, "workers": 1}
        yield "queueing", given, queueing(rate, 200, 4, 1)
    for jitter in ("off", "on"):
        yield "storm", {"jitter": jitter}, storm(jitter == "on")
    yield "poison", {}, poison()


def main() -> None:
    """Write the recording."""
    runs = {}
    load = os.getloadavg()[0]
    with LabTestbed("http://127.0.0.1:1") as testbed:
        for name, given, events in experiments(testbed):
            key = f"{name} {json.dumps(given, separators=(',', ':'))}"
            print(key, flush=True)
            began = time.monotonic()
            runs[key] = [(round((time.monotonic() - began) * 1000), event) for event in events]
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"a machine with {os.cpu_count()} processor cores, {platform.system()},"
        f" Python {platform.python_version()}, which was also busy with other programs"
        f" (load average {load:.1f})",
    }
    lines = [f"{json.dumps(key)}:{json.dumps(runs[key], separators=(',', ':'))}" for key in runs]
    body = ",\n".join(lines)
    RECORDING.write_text(f'{{"about":{json.dumps(about)},"runs":{{\n{body}\n}}}}\n')


if __name__ == "__main__":
    main()
