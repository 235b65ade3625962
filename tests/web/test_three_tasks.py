"""The example with three tasks runs as its page says."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from flask import Flask

from flask_offload.testing import drain

EXAMPLE = Path(__file__).parents[2] / "examples" / "three_tasks" / "app.py"


def test_the_three_tasks_run() -> None:
    names: dict[str, Any] = runpy.run_path(str(EXAMPLE), run_name="three_tasks")
    app: Flask = names["app"]
    client = app.test_client()
    assert client.get("/").status_code == 200
    headers = {"Accept": "application/json"}
    answer = client.post("/add", data={"a": "2", "b": "3"}, headers=headers)
    assert answer.status_code == 202
    with app.app_context():
        names["block"].enqueue(0.0)
        names["process"].enqueue(4, 0.0)
    added, _, worked = drain(app)
    assert added.return_value == 5
    assert worked.return_value == 4
    assert worked.progress is not None
    assert worked.progress.fraction == 1
    document = client.get(answer.headers["Location"], headers=headers).get_json()
    assert document["status"] == "SUCCESSFUL"
    names["offload"].state_of(app).engine.close()
