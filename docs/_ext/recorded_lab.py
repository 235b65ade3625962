"""Some pages of the lab, on the site, with a recording in place of the experiments."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from record_lab import RECORDING

from flask_offload_lab import site
from flask_offload_lab.engine import SampleAppEngine
from flask_offload_lab.site.modes import MODES

PAGES = ("why", "see", "deep", "queue")
FOLDER = "lab-recorded"
STATIC = Path(site.__file__).parent / "static"
MARK = "<!-- the recorded lab -->"
LINK = (
    f'<p><a href="{FOLDER}/why.html">A recorded run of the lab</a> shows four of its pages without'
    " an installation: real figures, of another machine than yours.</p>"
)


def build(out: Path) -> None:
    """Write the pages and all that they need into this folder."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(STATIC, out)
    (out / "stream.js").rename(out / "live.js")
    shutil.copy(Path(__file__).parent / "replayed_stream.js", out / "stream.js")
    shutil.copy(RECORDING, out / "recording.json")
    about = json.loads(RECORDING.read_text())["about"]
    modes = [mode for mode in MODES if mode.slug in PAGES]
    with tempfile.TemporaryDirectory() as folder:
        sample_app = SimpleNamespace(origin="http://localhost")
        testbed = SimpleNamespace(sample_app=sample_app, engine=SampleAppEngine(Path(folder)))
        lab: Any = SimpleNamespace(testbed=testbed, table=None, project=None, user_app=None)
        app = site.create_lab(lab, "http://localhost")
        app.context_processor(lambda: {"modes": modes, "recorded": about})
        for mode in modes:
            html = app.test_client().get(mode.path).text
            (out / f"{mode.slug}.html").write_text(_relative(html))


def _relative(html: str) -> str:
    """The page with the addresses that it has on the site."""
    html = re.sub(r'(?<=(?:href|.src)=")/static/', "", html)
    html = re.sub(rf'(?<=href=")/({"|".join(PAGES)})(?=")', r"\1.html", html)
    return html.replace('href="/"', 'href="../lab.html"')


def _write(app: Any, error: Exception | None) -> None:
    if not error and app.builder.name == "html":
        build(Path(app.outdir) / FOLDER)


def _link(app: Any, name: str, source: list[str]) -> None:
    source[0] = source[0].replace(MARK, LINK)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _link)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}
