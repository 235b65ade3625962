"""The first app of the README, exactly as printed, in a real browser."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from playwright.sync_api import Browser, expect

from browser_fixtures import browser_fixture  # noqa: F401 (fixture)
from support import answers, free_port, running

README = Path(__file__).parents[2] / "README.md"


def test_the_quickstart_shows_progress_and_ends(browser: Browser, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert "app = Flask(__name__)" in blocks[0]
    (tmp_path / "app.py").write_text(blocks[0])
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    assert "$ flask run --debug  " in README.read_text()
    command = [sys.executable, "-m", "flask", "run", "--debug", "--port", str(port)]
    with running(command, cwd=tmp_path, ready=lambda _: answers(origin)) as server:
        page = browser.new_page()
        page.goto(origin)
        page.get_by_role("textbox").fill(" ".join(["Ann"] * 6))
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("progressbar")).to_be_visible()
        expect(page.get_by_role("status")).to_contain_text("sending")
        expect(page.get_by_role("heading", name="Done")).to_be_visible()
        page.close()
        server.wait_for("send_letters #")
        server.wait_for(" done in ")
