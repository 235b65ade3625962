"""What visitors wait: over HTTP and in a real browser, as samples, findings and a report."""

from .browser import Browser, PlaywrightMissing
from .figures import LIGHTHOUSE, Threshold
from .http_client import Request, ask, prepare
from .probe import NoAnswer, OutOfBounds, innocent, probe
from .samples import Answer, PageLoad, PaintCost, ProbeResult, percentile
from .target import HostNotAllowed, Target

__all__ = [
    "LIGHTHOUSE",
    "Answer",
    "Browser",
    "HostNotAllowed",
    "NoAnswer",
    "OutOfBounds",
    "PageLoad",
    "PaintCost",
    "PlaywrightMissing",
    "ProbeResult",
    "Request",
    "Target",
    "Threshold",
    "ask",
    "innocent",
    "percentile",
    "prepare",
    "probe",
]
