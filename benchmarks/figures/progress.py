"""What telling its progress costs a job that does so in a tight loop."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from ..field import Field
from ..peers import BY_NAME
from . import Effort, Figure

ASK = """
import json
from benchmarks.jobs import create_app, telling
with create_app().app_context():
    print(json.dumps(telling.enqueue().result(timeout=60)))
"""


def measure(field: Field, effort: Effort) -> Figure:
    """A loop of 100,000 turns with nothing else in it, in a real worker."""
    figure = Figure("`current_job.progress` in a tight loop", ["µs a turn"])
    entry = field.entry(BY_NAME["offload-power"])
    entry.command = ["-m", "flask", "--app", "benchmarks.jobs", "offload", "worker"]
    found = []
    with entry.worker("--log-level", "error"):
        for _ in range(effort.rounds):
            argv = [sys.executable, "-c", ASK]
            said = subprocess.run(
                argv,
                check=True,
                capture_output=True,
                env=entry.environ,
                cwd=entry.environ["PYTHONPATH"],
            ).stdout
            found.append(json.loads(said))
    for name, which in (("nothing", 0), ("progress(done, total)", 1)):
        figure.rows[name] = [statistics.median(pair[which] for pair in found) * 1e6]
    return figure
