"""Every server, each way to make the app, each way to stop."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

from flask_offload import JobStatus
from flask_offload.admin.sqlite import SqliteEngine
from proc import alive, descendants
from support import answers, free_port, http_get, running, wait_until

from .. import HELPERS, ROOT
from ..scenario import Run, scenario
from ..world import PYTHON

HOSTS = {
    "gunicorn": "-m gunicorn -b 127.0.0.1:PORT site_app:app",
    "gunicorn --preload -w 2": "-m gunicorn --preload -w 2 -b 127.0.0.1:PORT site_app:app",
    "gunicorn -k gevent": "-m gunicorn -k gevent -b 127.0.0.1:PORT site_app:app",
    "waitress": "-m waitress --listen=127.0.0.1:PORT site_app:app",
    "hypercorn": "-m hypercorn -b 127.0.0.1:PORT wsgi:site_app:app",
    "granian": "-m granian --interface wsgi --port PORT site_app:app",
    "uvicorn": "-m uvicorn --interface wsgi --port PORT site_app:app",
    "uvicorn --workers": "-m uvicorn --workers 2 --interface wsgi --port PORT site_app:app",
    "tornado": "serve_tornado.py PORT",
    "wsgiref": "serve_wsgiref.py PORT",
    "werkzeug": "serve_werkzeug.py PORT",
}
"""By what starts them, after `python`."""

WAYS = {
    "a global app": "app = create_app('bank')",
    "a factory's argument, wrapped": "app = ProxyFix(create_app('bank'))",
    "wrapped": "flask_app = create_app('bank')\napp = ProxyFix(flask_app)",
    "set after the import": "app = create_app()\napp.config['PAYMENTS'] = 'bank'",
    "a .env file beside it": "app = create_app('bank')",
}

SCRIPTS = {
    "serve_tornado.py": "import asyncio, sys\nfrom tornado.httpserver import HTTPServer\n"
    "from tornado.wsgi import WSGIContainer\nfrom site_app import app\n"
    "async def main():\n    HTTPServer(WSGIContainer(app)).listen(int(sys.argv[1]), '127.0.0.1')\n"
    "    await asyncio.Event().wait()\nasyncio.run(main())\n",
    "serve_wsgiref.py": "import sys\nfrom wsgiref.simple_server import make_server\n"
    "from site_app import app\nmake_server('127.0.0.1', int(sys.argv[1]), app).serve_forever()\n",
    "serve_werkzeug.py": "import sys\nfrom werkzeug.serving import run_simple\n"
    "from site_app import app\nrun_simple('127.0.0.1', int(sys.argv[1]), app, threaded=True)\n",
}

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)


@scenario(
    "T25",
    "each server, with each way to make the app, stopped by SIGTERM, SIGINT and SIGKILL while a job"
    " runs, and started again",
)
def odd_hosts(run: Run) -> None:
    hosts = {name: words for name, words in HOSTS.items() if _is_installed(words)}
    combinations = list(itertools.product(hosts, WAYS, STOPS))
    run.chance.shuffle(combinations)
    combinations = combinations[: run.size(1, len(combinations))]
    found: Counter[str] = Counter()
    wrong = []
    for host, way, stop in combinations:
        notes = _stopped_and_started(run.new_folder(), hosts[host].split(), way, stop, found)
        wrong += [f"{host}, {way}: {line}" for line in notes if line.split()[1] != "bank"]
    run.figure("servers", ", ".join(hosts))
    run.figure("ways to make the app", "; ".join(WAYS))
    run.figure("combinations of server, way and signal", len(combinations))
    run.figure("servers stopped while a job ran", found["stopped"])
    run.figure("jobs", f"{found['jobs']}; cut and run again {found['again']}")
    run.gate("jobs have the configuration of their web process", wrong or "all", not wrong)
    run.gate("each job is done after a restart", found["waiting"], not found["waiting"])
    run.gate("a stopped server leaves no process behind", found["left"], not found["left"])


def _stopped_and_started(
    folder: Path, words: list[str], way: str, stop: int, found: Counter[str]
) -> list[str]:
    """Serve, stop while a job runs, serve again; what the jobs have written."""
    body = (
        f"from werkzeug.middleware.proxy_fix import ProxyFix\n"
        f"from torture.hosted_app import create_app\n{WAYS[way]}\n"
    )
    (folder / "site_app.py").write_text(body)
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    if way == "a .env file beside it":
        (folder / ".env").write_text("PAYMENTS=laptop\n")
    port = free_port()
    notes = folder / "notes"
    notes.touch()
    engine = SqliteEngine(folder / "jobs.sqlite3")
    env = {
        "NOTES": str(notes),
        "FLASK_OFFLOAD_SQLITE_PATH": str(folder / "jobs.sqlite3"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HELPERS), os.environ.get("PYTHONPATH", "")]),
    }
    argv = [PYTHON, *(word.replace("PORT", str(port)) for word in words)]
    url = f"http://127.0.0.1:{port}"

    def unfinished() -> int:
        counts = engine.count()
        return counts[JobStatus.READY] + counts[JobStatus.RUNNING]

    def served(number: int, stop: int) -> None:
        with running(argv, env=env, cwd=folder, ready=lambda _: answers(f"{url}/")) as process:
            http_get(f"{url}/charge/0.0")
            wait_until(lambda: notes.read_text().count("done") >= number, 60, str(process))
            http_get(f"{url}/charge/1.5")
            seen = notes.read_text().count("began")
            wait_until(lambda: notes.read_text().count("began") > seen or seen > number, 60)
            family = [process.pid, *descendants(process.pid)]
            for pid in family if stop == signal.SIGKILL else [process.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, stop)
            process.wait(60)
            wait_until(lambda: not any(map(alive, family)), 60, lambda: f"{family} of {argv} end")
            found["stopped"] += 1

    try:
        served(1, stop)
        with running(argv, env=env, cwd=folder, ready=lambda _: answers(f"{url}/")) as process:
            wait_until(lambda: not unfinished(), 60, lambda: f"{engine.count()} under {process}")
            found["waiting"] += unfinished()
            process.send(signal.SIGTERM)
            process.wait(60)
        lines = notes.read_text().splitlines()
        found["jobs"] += sum(engine.count().values())
        found["again"] += sum(line.startswith("began") for line in lines) - 2
        return lines
    finally:
        engine.close()


def _is_installed(words: str) -> bool:
    first, second, *_ = words.split()
    module = second if first == "-m" else first.removeprefix("serve_").removesuffix(".py")
    return all(importlib.util.find_spec(name) for name in ([module] if module else []))
