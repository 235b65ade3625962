"""Which request blocks, and which function is the cause. The names in `__all__` are public."""

from .spot_report import Blocker, SpotReport
from .store import (
    EvidenceUnreadable,
    RouteRow,
    SpotRow,
    forget_samples,
    route_rows,
    sentences_since,
    spot_rows,
)

__all__ = [
    "Blocker",
    "EvidenceUnreadable",
    "RouteRow",
    "SpotReport",
    "SpotRow",
    "forget_samples",
    "route_rows",
    "sentences_since",
    "spot_rows",
]
