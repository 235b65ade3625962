"""OpenTelemetry's spans of a job, from the process that enqueues it to the one that runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from brokers import Redis, serving

APP = """
import os
from flask import Flask
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from flask_offload import Offload

class Kept(InMemorySpanExporter):
    def export(self, spans):
        with open(os.environ["SPANS"], "a") as file:
            for span in spans:
                file.write(span.to_json(indent=None) + chr(10))
        return super().export(spans)

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Kept()))
trace.set_tracer_provider(provider)

offload = Offload()

def create_app():
    app = Flask("traced")
    app.config.from_prefixed_env()
    offload.init_app(app)
    return app

@offload.task
def works():
    with trace.get_tracer("own").start_as_current_span("inside"):
        return 1

@offload.task(isolate=True)
def fails():
    raise ValueError("no")

@offload.task
async def later():
    pass
"""
ENQUEUE = """
from traced import *
with create_app().app_context():
    with trace.get_tracer("own").start_as_current_span("request"):
        works.enqueue()
        fails.enqueue()
        offload.enqueue_many([later.using(queue_name="slow").call()])
"""


@pytest.mark.processes
@pytest.mark.parametrize("engine", ["sqlite", "celery", "inline"])
def test_a_job_is_one_trace_from_the_enqueue_to_its_end(tmp_path: Path, engine: str) -> None:
    (tmp_path / "traced.py").write_text(APP)
    server = serving(Redis, tmp_path / "redis") if engine == "celery" else nullcontext()
    with server as redis:
        env = {
            **os.environ,
            "SPANS": str(tmp_path / "spans"),
            "FLASK_OFFLOAD_ENGINE": engine,
            "FLASK_OFFLOAD_SQLITE_PATH": str(tmp_path / "jobs.sqlite3"),
        }
        if redis is not None:
            env["FLASK_CELERY"] = json.dumps({"broker_url": redis.url})

        def run(*words: str) -> None:
            subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, timeout=90, check=True)

        run("-c", ENQUEUE)
        if engine != "inline":
            run("-m", "flask", "--app", "traced", "offload", "worker", "--burst")
    spans = [json.loads(line) for line in (tmp_path / "spans").read_text().splitlines()]
    by_id: dict[str, Any] = {span["context"]["span_id"]: span for span in spans}
    (request,) = [span for span in spans if span["name"] == "request"]
    assert {span["context"]["trace_id"] for span in spans} == {request["context"]["trace_id"]}
    runs = [span for span in spans if span["kind"] == "SpanKind.CONSUMER"]
    assert sorted(span["name"] for span in runs) == [
        "process default",
        "process default",
        "process slow",
    ]
    for span in runs:
        producer = by_id[span["parent_id"]]
        assert producer["kind"] == "SpanKind.PRODUCER"
        assert [link["context"]["span_id"] for link in span["links"]] == [span["parent_id"]]
        assert producer["parent_id"] == request["context"]["span_id"]
        keys = ["messaging.destination.name", "messaging.system", "flask_offload.task"]
        if producer["name"].startswith("send"):  # else it has no id yet
            keys.append("messaging.message.id")
        for key in keys:
            assert span["attributes"][key] == producer["attributes"][key]
        is_failed = span["attributes"]["flask_offload.task"] == "traced.fails"
        assert (span["status"]["status_code"] == "ERROR") is is_failed
        assert bool(span["events"]) is is_failed
    (inside,) = [span for span in spans if span["name"] == "inside"]
    assert by_id[inside["parent_id"]] in runs
