"""Real processes, real signals, real full disks: what Flask-Offload promises, shown.

    python -m torture [--long] [--only NAME] [--seed N] [--list]

Each scenario does harm to a running system and then has every accepted job accounted for by an
auditor that knows nothing of the scenario: it reads the database and the event log alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# What starts and ends processes for the tests does it here too.
HELPERS = ROOT / "tests" / "helpers"
sys.path.append(str(HELPERS))
