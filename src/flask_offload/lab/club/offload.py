"""The club's one Offload, on which every module declares its tasks."""

from __future__ import annotations

from ... import Offload

offload = Offload()
