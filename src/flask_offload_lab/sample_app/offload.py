"""The club's one Offload, on which every module declares its tasks."""

from __future__ import annotations

from flask_offload import Offload

offload = Offload()

WELCOME, WORKSHOP = QUEUES = ("lab-welcome", "lab-workshop")
"""The queues. Whoever uses the same broker has others, so nobody takes somebody else's jobs."""
