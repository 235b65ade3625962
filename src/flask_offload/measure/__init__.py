"""What visitors wait, over HTTP and in a browser. The names in `__all__` are public.

`measure` does all of it; `probe`, `probe_bystander` and `Browser` are its parts.
"""

from .browser import Browser, PlaywrightMissing
from .chromium import BrowserUnavailable
from .figures import LCP, LIGHTHOUSE, TTFB, Threshold
from .form import Upload
from .http_client import Request, ask, prepare
from .probe import NoAnswer, OutOfBounds, probe, probe_bystander
from .report import render_html, to_json
from .runner import Options, measure
from .samples import Answer, Measurement, PageLoad, PaintCost, ProbeResult, Variant, percentile
from .tab import PageFailed
from .target import BadUrl, HostNotAllowed, Target
from .text import render_text

__all__ = [
    "LCP",
    "LIGHTHOUSE",
    "TTFB",
    "Answer",
    "BadUrl",
    "Browser",
    "BrowserUnavailable",
    "HostNotAllowed",
    "Measurement",
    "NoAnswer",
    "Options",
    "OutOfBounds",
    "PageFailed",
    "PageLoad",
    "PaintCost",
    "PlaywrightMissing",
    "ProbeResult",
    "Request",
    "Target",
    "Threshold",
    "Upload",
    "Variant",
    "ask",
    "measure",
    "percentile",
    "prepare",
    "probe",
    "probe_bystander",
    "render_html",
    "render_text",
    "to_json",
]
