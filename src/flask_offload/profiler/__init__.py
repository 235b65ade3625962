"""Which request blocks, and which function is the cause."""

from .store import EvidenceUnreadable, SpotRow, sentences_since, spot_rows

__all__ = ["EvidenceUnreadable", "SpotRow", "sentences_since", "spot_rows"]
