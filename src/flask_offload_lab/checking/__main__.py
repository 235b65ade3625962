"""`python -m flask_offload_lab.checking WHAT KEY MODULE`, in the folder of the program.

Prints a line of JSON for each step: {"good": …, "text": …}; the last one is "Solved." or the first
failure.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from . import fixes, steps
from .harness import StepFailed, Submission, surroundings, worker

CHECKS = {"fix": fixes.CHECKS, "step": steps.CHECKS}


def main(what: str, key: str, module: str) -> None:
    """Check the program in the current folder."""
    folder = Path.cwd()
    sys.path.insert(0, str(folder))
    steps_out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the program prints is no step

    def report(good: bool, text: str) -> None:
        steps_out.write(json.dumps({"good": good, "text": text}) + "\n")

    with surroundings(folder) as server:
        try:
            submission = Submission(module, server)
            with worker(submission, folder):
                for text in CHECKS[what][key](submission):
                    report(True, text)
        except StepFailed as failure:
            report(False, str(failure))
            return
    report(True, "Solved.")


if __name__ == "__main__":
    main(*sys.argv[1:])
