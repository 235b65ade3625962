"""An experiment ends, and frees the sample app, even if its request is dropped."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flask_offload_lab.errors import LabError
from flask_offload_lab.experiments import Event
from flask_offload_lab.experiments.checked import step
from flask_offload_lab.site import experiment_run
from flask_offload_lab.site.experiment_run import BUSY, STUCK, ExperimentRun
from lab_support import RunningLab, lab_running
from support import wait_until


class Experiment:
    """Sends what it is given, until it is closed; notes in which thread that happened."""

    def __init__(self) -> None:
        self.more = threading.Semaphore(0)
        self.closed_in: threading.Thread | None = None

    def events(self) -> Iterator[Event]:
        try:
            number = 0
            while True:
                self.more.acquire()
                number += 1
                yield {"number": number}
        finally:
            self.closed_in = threading.current_thread()


def test_closing_the_answer_ends_the_experiment_in_its_own_thread() -> None:
    experiment, exclusive = Experiment(), threading.Lock()
    events = ExperimentRun(experiment.events(), exclusive).events()
    experiment.more.release()
    assert next(events) == {"number": 1}
    assert exclusive.locked()
    events.close()  # type: ignore[attr-defined]
    experiment.more.release()
    wait_until(lambda: not exclusive.locked(), 10, "the sample app is free")
    assert experiment.closed_in not in (None, threading.current_thread())


def test_an_answer_that_no_one_reads_or_closes_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_run, "GONE", 0.1)
    experiment, exclusive = Experiment(), threading.Lock()
    kept = ExperimentRun(experiment.events(), exclusive).events()
    wait_until(exclusive.locked, 10, "it has begun")

    def is_free() -> bool:
        experiment.more.release()
        return not exclusive.locked()

    wait_until(is_free, 10, "the sample app is free")
    assert kept is not None  # neither read nor closed


def test_the_next_one_waits_and_says_so_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    exclusive = threading.Lock()
    with exclusive:
        monkeypatch.setattr(experiment_run, "PATIENCE", 0.1)
        stuck = ExperimentRun(Experiment().events(), exclusive)
        found = [event for event in stuck.events() if event]
    assert found == [{"status": BUSY}, {"error": STUCK}]


def test_a_failure_is_an_event() -> None:
    def failing() -> Iterator[Event]:
        yield {"number": 1}
        raise ZeroDivisionError("by nought")

    exclusive = threading.Lock()
    found = [event for event in ExperimentRun(failing(), exclusive).events() if event]
    assert found == [{"number": 1}, {"error": "The experiment failed: by nought"}]
    assert not exclusive.locked()


def test_a_quiet_experiment_writes_so_that_a_closed_connection_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(experiment_run, "QUIET", 0.05)
    experiment = Experiment()
    events = ExperimentRun(experiment.events(), threading.Lock()).events()
    assert next(events) is None
    experiment.more.release()
    assert {"number": 1} in (next(events), next(events), next(events))
    events.close()  # type: ignore[attr-defined]
    experiment.more.release()


@pytest.fixture(scope="module")
def lab(processes: None) -> Iterator[RunningLab]:
    with lab_running() as found:
        yield found


@pytest.mark.processes
@pytest.mark.parametrize("name", ["headless", "race", "backlog"])
def test_a_reader_who_leaves_at_once_blocks_no_one(lab: RunningLab, name: str) -> None:
    params = {"patterns": ["sync", "progress"], "pattern": "sync", "visitors": 2}
    body = json.dumps(params).encode()
    head = f"POST /run/{name} HTTP/1.1\r\nHost: {urlsplit(lab.origin).netloc}\r\n"
    head += f"Origin: {lab.origin}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    address = urlsplit(lab.origin)
    with socket.create_connection((address.hostname, address.port)) as left:
        left.sendall(head.encode() + body)
        assert left.recv(12)  # it has begun
    events = lab.run("race", pattern="background", visitors=1)
    assert any(event.get("lane") == "bystander" for event in events)


@pytest.mark.processes
def test_json_that_is_nested_too_deeply_is_refused(lab: RunningLab) -> None:
    connection = http.client.HTTPConnection(urlsplit(lab.origin).netloc, timeout=30)
    headers = {"Origin": lab.origin, "Content-Type": "application/json"}
    connection.request("POST", "/run/race", "[" * 100_000 + "]" * 100_000, headers)
    assert connection.getresponse().status == 400
    connection.close()


def test_links_pipes_and_large_folders_are_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    (project / "templates").mkdir(parents=True)
    (project / "app.py").write_text("app = None\n")
    (project / "templates" / "page.html").write_text("page")
    os.symlink("/", project / "root")
    os.symlink(project, project / "templates" / "loop")
    os.symlink("nowhere", project / "dangling")
    os.mkfifo(project / "pipe")
    copied: list[set[str]] = []

    def look(folder: Path, *_: str) -> Iterator[Event]:
        copied.append({str(path.relative_to(folder)) for path in folder.rglob("*")})
        yield {"good": True, "text": "Solved."}

    monkeypatch.setattr("flask_offload_lab.experiments.checked._check", look)
    assert len(list(step(project, "any"))) == 1
    assert copied == [{"app.py", "templates", "templates/page.html"}]
    monkeypatch.setattr("flask_offload_lab.experiments.checked.MAX_COPIED", 10)
    with pytest.raises(LabError, match="20 MB"):
        list(step(project, "any"))
