"""What the lab's tests share: a running lab, and requests to it."""

from __future__ import annotations

import http.client
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from support import APPS, Response, http_get, http_request, running

APP = APPS / "lab_app.py"


@dataclass(frozen=True)
class RunningLab:
    """A lab that runs in processes of its own."""

    origin: str
    sample_app: str

    def get(self, path: str, **headers: str) -> Response:
        """A page of the lab."""
        return http_get(self.origin + path, headers=headers)

    def post(self, path: str, form: dict[str, str], **headers: str) -> Response:
        """A form of the lab, as its own pages send it."""
        sent = {"Origin": self.origin, **headers}
        return http_request("POST", self.origin + path, form=form, headers=sent, timeout=60)

    def run(self, name: str, **params: object) -> list[dict[str, Any]]:
        """All events of an experiment. Raises AssertionError if the lab refuses it."""
        headers = {"Origin": self.origin, "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(urlsplit(self.origin).netloc, timeout=120)
        try:
            connection.request("POST", f"/run/{name}", json.dumps(params), headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        assert response.status == 200, text
        return [json.loads(line) for line in text.splitlines() if line]


@contextmanager
def lab_running(*words: str) -> Iterator[RunningLab]:
    """words: for lab_app.py."""
    command = [sys.executable, str(APP), *words]
    with running(command, ready="The lab:", timeout=60) as process:
        found = re.search(r"The lab: (http://[\d.:]+)/", process.output())
        assert found, process.output()
        home = http_get(found[1]).text
        sample_app = re.search(r'href="(http://127\.0\.0\.1:\d+)/"', home)
        assert sample_app, home
        yield RunningLab(found[1], sample_app[1])
