"""An app for the tests of the browser's side: tasks that wait for a gate, and views that are moved.

A gate is a file in the folder GATES: what waits for it goes on when the test has made it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import flask_login
from flask import (
    Flask,
    Response,
    abort,
    flash,
    g,
    jsonify,
    redirect,
    render_template_string,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_wtf import CSRFProtect, FlaskForm
from wtforms import StringField  # type: ignore[import-untyped]
from wtforms.validators import DataRequired  # type: ignore[import-untyped]

from flask_offload import Discard, Job, Offload, current_job

offload = Offload()

STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""No inline script, no inline style, nothing from elsewhere."""


def pass_gate(name: str) -> None:
    """Wait until the test opens this gate; a cancelled job does not wait."""
    gate = Path(os.environ["GATES"]) / name
    while not gate.exists():
        time.sleep(0.01)
        if current_job:
            current_job.check()


# --- tasks -------------------------------------------------------------------------------------


@offload.task
def steps(names: list[str]) -> int:
    """Passes one gate after the other, and reports before each."""
    for done, name in enumerate(names):
        current_job.progress(done, len(names), f"before {name}")
        pass_gate(name)
    return len(names)


@offload.task(expose="result")
def shown(text: str) -> dict[str, Any]:
    return {"text": text, "day": date(2026, 11, 23), "raw": b"\xff"}


@offload.task(expose="result")
def shown_failure() -> None:
    raise ValueError("row 17 has no address")


@offload.task
def secret(text: str) -> str:
    return text


@offload.task
def broken(text: str) -> None:
    raise RuntimeError(text)


@offload.task
def give_up() -> None:
    raise Discard("there is nothing to do")


@offload.task(max_attempts=2, backoff=3600.0)
def patient() -> None:
    raise RuntimeError("not yet")


# --- views -------------------------------------------------------------------------------------

PAGE = """<!doctype html><title>A form</title><form method="post" action="{{ action }}">
<input name="name" value="Ada"><input type="hidden" name="gate" value="{{ gate }}">
<button>Make it</button></form>"""


class NameForm(FlaskForm):  # type: ignore[misc]
    name = StringField(validators=[DataRequired()])


class BareForm(NameForm):
    """Checks its token itself, as forms do in apps without CSRFProtect."""


def create_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="for tests", WTF_CSRF_CHECK_DEFAULT=False)
    app.config.from_prefixed_env()
    app.config.update(config)
    offload.init_app(app)
    CSRFProtect(app)
    login = flask_login.LoginManager(app)
    login.user_loader(User)
    _add_task_views(app)
    _add_moved_views(app)
    _add_form_views(app)
    return app


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


def _add_task_views(app: Flask) -> None:
    @app.get("/")
    def index() -> str:
        return "bystander"

    @app.post("/steps/<names>")
    def start(names: str) -> Response:
        return offload.accepted(steps.enqueue(names.split(",")))

    @app.get("/embed/<job_id>")
    def embed(job_id: str) -> str:
        return render_template_string(
            '<!doctype html><title>Embedded</title><script type="module"'
            " src=\"{{ offload_asset('offload-job.js') }}\"></script>"
            "<offload-job href=\"{{ url_for('offload.job', job_id=id) }}\"></offload-job>"
            "<p>below</p>",
            id=job_id,
        )

    @app.get("/furnished/<job_id>")
    def furnished(job_id: str) -> str:
        return render_template_string(
            '<!doctype html><title>Furnished</title><script type="module"'
            " src=\"{{ offload_asset('offload-job.js') }}\"></script>"
            "{{ offload_progress(job) }}<p>below</p>",
            job=offload.get_job(job_id),
        )


def _add_moved_views(app: Flask) -> None:
    @app.route("/echo/<path:rest>", methods=["GET", "POST", "PUT"])
    @offload.respond_async(headers=["X-Tenant"], session=["cart"])
    def echo(rest: str) -> ResponseReturnValue:
        """Everything that a view can see of its request."""
        if rest == "signed":
            request.get_data()  # as it came, to be checked against a signature
        seen = {
            "method": request.method,
            "url": request.url,
            "rest": rest,
            "root": request.script_root,
            "query": request.args.to_dict(flat=False),
            "form": request.form.to_dict(flat=False),
            "files": {
                name: [file.filename, file.mimetype, file.read().decode("latin-1")]
                for name, file in request.files.items()
            },
            "json": request.get_json(silent=True),
            "body": request.get_data().decode("latin-1"),
            "headers": dict(request.headers),
            "address": request.remote_addr,
            "endpoint": request.endpoint,
            "session": dict(session),
            "user": flask_login.current_user.get_id(),
            "link": url_for("index", _external=True),
            "in_job": bool(current_job),
        }
        return jsonify(seen), 201, {"X-Extra": "yes"}

    @app.route("/gated/<gate>", methods=["GET", "POST"])
    @offload.respond_async
    def gated(gate: str) -> str:
        pass_gate(gate)
        return f"passed {gate}"

    @app.post("/quick")
    @offload.respond_async(always=True, wait=5)
    def quick() -> str:
        return f"<h1>Hello {request.form.get('name')}</h1>"

    @app.post("/long-running/<outcome>")
    @offload.respond_async
    def long_running(outcome: str) -> ResponseReturnValue:
        """Still running at the first poll of most clients."""
        time.sleep(1.3)
        if outcome == "broken":
            raise RuntimeError("broken")
        return {"report": outcome}

    @app.post("/forgotten")
    @offload.respond_async(result_ttl=0.01)
    def forgotten() -> str:
        return "for a moment"

    @app.post("/mine/<gate>")
    @offload.respond_async(owner=lambda: request.headers.get("X-User"))
    def mine(gate: str) -> str:
        return current_job.owner or "no owner"

    @app.get("/answers/<kind>")
    @offload.respond_async
    async def answers(kind: str) -> ResponseReturnValue:
        return _answer_in_some_way(kind)

    @app.errorhandler(ZeroDivisionError)
    def divided(error: ZeroDivisionError) -> tuple[str, int]:
        return "handled", 418

    @app.before_request
    def before() -> None:
        g.before = getattr(g, "before", 0) + 1

    @app.after_request
    def after(response: Response) -> Response:
        response.headers.add("X-After", "1")
        response.headers["Content-Security-Policy"] = STRICT
        return response


def _answer_in_some_way(kind: str) -> ResponseReturnValue:
    if kind == "stream":

        def lines() -> Iterator[str]:
            for number in range(3):
                yield f"{request.path} {number}\n"

        return Response(stream_with_context(lines()), mimetype="text/plain")
    if kind == "endless":
        return Response(iter(lambda: b"x" * 65536, None))
    if kind == "file":
        return send_file(__file__, mimetype="text/x-python")
    if kind == "bytes":
        return Response(bytes(range(256)), mimetype="application/octet-stream")
    if kind == "cookie":
        response = Response("with a cookie")
        response.set_cookie("sid", "secret")
        session["seen"] = True
        flash("lost")
        return response
    if kind == "redirect":
        return redirect("../elsewhere")
    if kind == "abort":
        abort(404)
    if kind == "handled":
        return str(1 // 0)
    if kind == "broken":
        raise RuntimeError("secret sauce")
    if kind == "cached":
        return Response("public", headers={"Cache-Control": "public, max-age=60"})
    return {"before": g.get("before", 0)}


def _add_form_views(app: Flask) -> None:
    @app.post("/login/<name>")
    def log_in(name: str) -> str:
        flask_login.login_user(User(name))
        session["cart"] = ["apple"]
        return "logged in"

    @app.get("/form/<gate>")
    def form(gate: str) -> str:
        return render_template_string(PAGE, action=url_for("slow_form"), gate=gate)

    @app.post("/slow-form")
    @offload.respond_async(always=True)
    def slow_form() -> str:
        """What a visitor waits for: three steps, then a page."""
        for done in range(3):
            current_job.progress(done, 3, f"step {done + 1} of 3")
            pass_gate(f"{request.form['gate']}-{done}")
        if request.form["name"] == "Mallory":
            raise RuntimeError("secret sauce")
        return f"<!doctype html><title>Ready</title><h1>Hello {request.form['name']}</h1>"

    @app.route("/checked", methods=["GET", "POST"])
    @offload.respond_async(always=["POST"])
    def checked() -> str:
        name_form = BareForm()
        if name_form.validate_on_submit():
            return f"valid {name_form.name.data}"
        return render_template_string(
            "<!doctype html><title>Checked</title>{{ form.errors }}"
            '<form method="post">{{ form.csrf_token }}{{ form.name }}<button>Send</button></form>',
            form=name_form,
        )


def narrow_to_user(job: Job) -> bool:
    """For tests of `authorize`: jobs are seen by their owner, as X-User says."""
    return job.owner is None or job.owner == request.headers.get("X-User")
