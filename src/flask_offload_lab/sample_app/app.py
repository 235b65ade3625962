"""The sample app as a Flask app.

New members get a welcome mail and their portrait in all sizes. Three routes do this same work:
`/sync` in the request, `/thread` in a thread, `/background` as a job of Flask-Offload.
"""

from __future__ import annotations

import re
import secrets
import smtplib
from email.message import EmailMessage
from threading import Thread

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    copy_current_request_context,
    render_template,
    request,
    send_file,
)

from flask_offload import Job, current_job

from ..origin_check import OriginCheck
from ..photo import FORMATS, SAMPLE, SIZES, thumbnails
from .settings import KEY, WELCOME, Settings, journal, offload, portrait, settings
from .spots import spots
from .workshop import workshop

NAMES = [f"{size}.{suffix}" for size in SIZES for suffix in FORMATS.values()]
MEMBER = re.compile(r"[a-z0-9-]{1,40}")

pages = Blueprint("pages", __name__)


@offload.task(queue_name=WELCOME)
def welcome(member: str) -> int:
    """Send the welcome mail, make the portraits, and give their number."""
    with journal().span("work", member):
        send_mail(member)
        folder = settings().folder_of(member)
        for made, picture in enumerate(thumbnails(portrait(), folder), 1):
            if current_job:
                current_job.progress(made, len(NAMES), picture.name)
    return len(NAMES)


@pages.get("/sync")
def sync() -> str:
    member = new_member()
    welcome(member)
    return page("Welcome.")


@pages.get("/thread")
def thread() -> str:
    member = new_member()

    @copy_current_request_context
    def work() -> None:
        welcome(member)

    Thread(target=work).start()
    return page("Welcome.")


@pages.get("/background")
def background() -> str:
    member = new_member()
    job = welcome.enqueue(member)
    return page("Welcome.", job)


@pages.get("/")
def home() -> str:
    """The bystander's page: no mail, no pictures, nothing to wait for."""
    return page("Join us.")


def page(title: str, job: Job | None = None) -> str:
    """One page for all routes, so that they differ only in who waits.

    `?progress` adds an element that follows the job, `?careless` one that does so badly.
    """
    wanted = next((way for way in ("progress", "careless") if way in request.args), None)
    return render_template(
        "page.html", title=title, job=job, report=wanted, lab=settings().lab_origin
    )


def new_member() -> str:
    """The name of a new member, as given in the address, or a random one."""
    member: str = request.args.get("member") or f"m-{secrets.token_hex(6)}"
    if not MEMBER.fullmatch(member):
        abort(400, "member: 1 to 40 of a-z, 0-9 and -")
    return member


def send_mail(member: str) -> None:
    """Send a real mail: smtplib, a socket, and a slow server."""
    message = EmailMessage()
    message["From"] = "Nanosecond <welcome@nanosecond.example>"
    message["To"] = f"{member}@visitors.example"
    message["Subject"] = "Welcome to Nanosecond"
    message["Message-ID"] = f"<{member}@nanosecond.example>"
    message.set_content(
        f"Dear {member},\n\nwelcome. Your portrait is ready in {len(NAMES)} versions.\n"
    )
    with smtplib.SMTP("127.0.0.1", settings().smtp_port, timeout=60) as server:
        server.send_message(message)


@pages.get("/portrait")
def hero() -> Response:
    """The large picture on every page, always the same, so that pages can be compared."""
    return send_file(SAMPLE, mimetype="image/jpeg")


@pages.get("/members/<member>/<name>")
def picture(member: str, name: str) -> Response:
    """A portrait that was made."""
    if not MEMBER.fullmatch(member) or name not in NAMES:
        abort(404)
    path = settings().members / member / name
    return send_file(path) if path.exists() else abort(404)


def forbid_caching(response: Response) -> Response:
    """Every visit is a first visit, with nothing in the browser's cache."""
    if request.blueprint != "offload":
        response.headers["Cache-Control"] = "no-store"
    return response


def create_app() -> Flask:
    """The sample app, configured by its environment."""
    setup = Settings.from_environ()
    app = Flask(__name__, instance_path=str(setup.folder))
    app.config.from_prefixed_env()  # the engine, and what it needs
    app.config[KEY] = setup
    app.config.update(
        SEND_FILE_MAX_AGE_DEFAULT=0,
        OFFLOAD_APP=f"{__name__}:create_app",
        OFFLOAD_SQLITE_PATH=str(setup.database),
        OFFLOAD_SERVER_TIMING=True,
        OFFLOAD_SPOT=True,
    )
    OriginCheck(setup.origin, allowed=[setup.lab_origin]).install(app)
    offload.init_app(app)
    app.register_blueprint(pages)
    app.register_blueprint(spots)
    app.register_blueprint(workshop)
    app.after_request(forbid_caching)
    app.before_request(lambda: journal().note("request-begin", request.full_path))
    app.teardown_request(lambda _: journal().note("request-end", request.full_path))
    return app
