"""Small blocking routes, each with what a careful colleague would say about it.

`right` is the advice that fits best, `fair` what does no harm; all other advice would break the
app, lose something, or be of no use.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import html
import http.client
import importlib
import io
import re
import smtplib
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import argon2
import bcrypt
import flask
import httpx
import requests
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    flash,
    g,
    jsonify,
    make_response,
    redirect,
    render_template,
    render_template_string,
    request,
    send_file,
    session,
    stream_with_context,
)
from flask.views import MethodView
from flask_sqlalchemy import SQLAlchemy
from PIL import Image
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from werkzeug.security import check_password_hash, generate_password_hash

from blocking_app import Services

SECONDS = 0.09


class Situation(NamedTuple):
    """A route and the advice about it. right: the best. fair: harmless. words: in the sentence."""

    method: str
    path: str
    right: str
    fair: tuple[str, ...]
    words: str


SITUATIONS: list[Situation] = []
_VIEWS: dict[str, Any] = {}


def situation(
    right: str, *fair: str, method: str = "GET", words: str = "", options: tuple[str, ...] = ()
) -> Callable[[Any], Any]:
    """Register a view under its own name. options: more methods that it takes."""

    def register(view: Any) -> Any:
        path = f"/{view.__name__}"
        SITUATIONS.append(Situation(method, path, right, fair, words))
        _VIEWS[path] = (view, [method, *options])
        return view

    return register


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Author(db.Model):  # type: ignore[name-defined, misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[str] = mapped_column(default="")


class Book(db.Model):  # type: ignore[name-defined, misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(db.ForeignKey("author.id"))
    author: Mapped[Author] = relationship()


BOOKS = 400


def compute(seconds: float = SECONDS) -> int:
    end, total = time.thread_time() + seconds, 0
    while time.thread_time() < end:
        total += sum(range(100))
    return total


def url() -> str:
    return f"http://127.0.0.1:{Services.http_port}/"


# --- nothing depends on it: a task -------------------------------------------------------------


def send_mail(address: str) -> None:
    with smtplib.SMTP("127.0.0.1", Services.smtp_port, local_hostname="localhost") as smtp:
        smtp.sendmail("shop@example.org", [address], "Subject: Hello\r\n\r\nHello\r\n")


@situation("task", "respond_async", method="POST", words="send_mail.enqueue")
def mail_unused() -> Any:
    send_mail("ada@example.org")
    return redirect("/")


@situation("task", "respond_async", method="POST")
def mail_in_the_view() -> Any:
    with smtplib.SMTP("127.0.0.1", Services.smtp_port, local_hostname="localhost") as smtp:
        smtp.sendmail("shop@example.org", ["ada@example.org"], "Subject: Hello\r\n\r\nHello\r\n")
    return redirect("/")


@situation("task", "respond_async", method="POST", words="enqueue_many")
def mails_in_a_loop() -> str:
    for number in range(3):
        send_mail(f"user{number}@example.org")
    return "done"


@situation("task", "respond_async", method="POST", words="The view does this itself")
def webhook_in_the_view() -> str:
    requests.post(url(), json={"order": 7}, timeout=5)
    return "done"


def notify(order: int) -> None:
    httpx.post(url(), json={"order": order}, timeout=5)


@situation("task", "respond_async", method="POST", words="notify.enqueue")
def webhook_in_a_helper() -> str:
    notify(7)
    return "done"


def convert(name: str) -> None:
    subprocess.run(["sleep", str(SECONDS)], check=True)


@situation("task", "respond_async", method="POST", words="convert.enqueue")
def program_unused() -> str:
    convert("film.avi")
    return "done"


def audit(action: str) -> None:
    time.sleep(SECONDS)


@situation("task", "respond_async", method="POST", words="audit.enqueue")
def sleep_in_a_helper() -> str:
    audit("bought")
    return "done"


@situation("task", "respond_async", method="POST")
def sleep_in_the_view() -> str:
    time.sleep(SECONDS)
    return "done"


@situation("task", "respond_async", method="POST", words="audit.enqueue")
def failure_is_only_logged() -> str:
    try:
        audit("bought")
    except OSError:
        current_app.logger.exception("no audit")
    return "done"


@situation("task", method="POST", words="audit.enqueue")
def task_in_a_view_that_sets_the_session() -> Any:
    session["user"] = 7
    audit("login")
    return redirect("/")


def log_address(action: str) -> None:
    audit(f"{action} {request.remote_addr}")
    time.sleep(SECONDS)


@situation("task", "respond_async", method="POST", words="reads from the request")
def helper_reads_the_request() -> str:
    log_address("bought")
    return "done"


def index_document(words: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    end = time.thread_time() + SECONDS
    while time.thread_time() < end:
        for word in words:
            found[word] = found.get(word, 0) + 1
    return found


def publish(words: list[str]) -> None:
    audit(str(index_document(words))[:3])


@situation("task", "respond_async", method="POST", words="publish.enqueue")
def value_used_by_a_helper_whose_own_is_not() -> str:
    publish(["one", "two"])
    return "done"


class Mailer:
    def __init__(self) -> None:
        self.sent = 0

    def deliver(self) -> None:
        time.sleep(SECONDS)
        self.sent += 1


@situation("task", "respond_async", method="POST")
def method_of_an_object_that_is_dropped() -> str:
    Mailer().deliver()
    return "done"


def read_only(user: dict[str, str]) -> None:
    time.sleep(SECONDS)
    str(user["name"])


@situation("task", "respond_async", method="POST", words="read_only.enqueue")
def argument_is_only_read() -> Any:
    user = {"name": "Ada"}
    read_only(user)
    return jsonify(user)


def make_thumbnail(source: bytes, size: int) -> None:
    end = time.thread_time() + SECONDS
    while time.thread_time() < end:
        picture = Image.open(io.BytesIO(source))
        picture.resize((size, size), Image.Resampling.LANCZOS).save(io.BytesIO(), "PNG")


@functools.cache
def picture() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((300, 200), 80).save(out, "PNG")
    return out.getvalue()


@situation("task", "respond_async", method="POST", words="make_thumbnail.enqueue")
def image_unused() -> Any:
    make_thumbnail(picture(), 100)
    return redirect("/")


class Signup(MethodView):
    def post(self) -> str:
        send_mail("ada@example.org")
        return "done"


@situation("task", "respond_async", method="POST", words="audit.enqueue")
async def async_view() -> str:
    audit("bought")
    return "done"


# --- its value is the answer -------------------------------------------------------------------


def make_report() -> bytes:
    return str(compute()).encode()


@situation("respond_async", "task", "cache", method="POST", words='always=["POST"]')
def report_returned() -> Any:
    return send_file(io.BytesIO(make_report()), "text/plain")


@situation("respond_async", "cache", "task")
def report_of_a_get() -> Any:
    return send_file(io.BytesIO(make_report()), "text/plain")


def make_csv() -> str:
    out, end = io.StringIO(), time.thread_time() + SECONDS
    while time.thread_time() < end:
        out.write(",".join(str(number) for number in range(50)) + "\n")
    return out.getvalue()[:100]


@situation("respond_async", "cache", "task", method="POST", words='always=["POST"]')
def csv_returned() -> Any:
    return Response(make_csv(), mimetype="text/csv")


@situation("respond_async", "cache", "task", method="POST")
def archive_in_the_view() -> Any:
    out, end = io.BytesIO(), time.thread_time() + SECONDS
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        while time.thread_time() < end:
            archive.writestr(str(time.monotonic()), picture())
    return send_file(io.BytesIO(out.getvalue()[:100]), "application/zip")


@situation("respond_async", "cache", "task", method="POST")
def program_whose_output_is_used() -> str:
    return subprocess.run(
        ["sh", "-c", f"sleep {SECONDS}; echo 7"], capture_output=True, text=True
    ).stdout


@situation("respond_async", "cache", "task", method="POST", words='always=["POST"]')
def image_edited_in_the_view() -> Any:
    image: Image.Image = Image.open(io.BytesIO(picture()))
    end = time.thread_time() + SECONDS
    while time.thread_time() < end:
        image = image.resize((300, 200), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "PNG")
    return send_file(io.BytesIO(out.getvalue()), "image/png")


def rates() -> bytes:
    with urllib.request.urlopen(url()) as answer:
        return bytes(answer.read())


@situation("cache", "respond_async")
def rates_shown() -> bytes:
    return rates()


@situation("cache", "respond_async")
def rates_with_requests() -> str:
    return requests.get(url(), timeout=5).text


@situation("cache", "respond_async")
def rates_with_http_client() -> str:
    connection = http.client.HTTPConnection("127.0.0.1", Services.http_port)
    connection.request("GET", "/")
    status = connection.getresponse().status
    connection.close()
    return str(status)


@situation("respond_async", "cache", "leave", method="POST", words='always=["POST"]')
def charge_is_shown() -> Any:
    receipt = requests.post(url(), json={"amount": 7}, timeout=5).text
    return jsonify(receipt=receipt)


@situation("respond_async", "task", "cache", method="POST")
def waits_for_a_pool() -> str:
    with ThreadPoolExecutor(1) as pool:
        return str(pool.submit(compute).result())


@situation("respond_async", "leave", method="POST")
def waits_for_a_thread() -> Any:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(compute()))
    thread.start()
    thread.join()
    return jsonify(found)


# --- it decides what the answer is -------------------------------------------------------------

HASH = generate_password_hash("cat", "scrypt:65536:8:1")
PBKDF2 = generate_password_hash("cat", "pbkdf2:sha256:300000")
BCRYPT = bcrypt.hashpw(b"cat", bcrypt.gensalt(10))
ARGON2 = argon2.PasswordHasher(time_cost=6).hash("cat")


@situation("leave", method="POST", words="password")
def login_with_werkzeug() -> Any:
    if not check_password_hash(HASH, "cat"):
        abort(401)
    session["user"] = 1
    return "in"


@situation("leave", method="POST", words="password")
def login_with_pbkdf2() -> Any:
    return "in" if check_password_hash(PBKDF2, "cat") else ("wrong", 401)


def check(password: str) -> bool:
    return bcrypt.checkpw(password.encode(), BCRYPT)


@situation("leave", method="POST", words="password")
def login_with_bcrypt() -> Any:
    if not check("cat"):
        abort(401)
    return "in"


@situation("leave", method="POST", words="password")
def login_with_argon2() -> Any:
    try:
        argon2.PasswordHasher().verify(ARGON2, "cat")
    except argon2.exceptions.VerifyMismatchError:
        return "wrong", 401
    return "in"


@situation("leave", method="POST", words="password")
def token_with_hashlib() -> str:
    return hashlib.pbkdf2_hmac("sha256", b"cat", b"salt", 200_000).hex()


@situation("leave", method="POST", words="password")
def register_account() -> Any:
    user = Author(name="Ada")
    set_password(user, "cat")
    db.session.add(user)
    db.session.commit()
    return redirect("/")


def set_password(user: Any, password: str) -> None:
    user.hash = generate_password_hash(password, "scrypt:65536:8:1")


def is_licensed() -> bool:
    time.sleep(SECONDS)
    return True


@situation("respond_async", "leave", "cache", method="POST", words="decides")
def condition() -> str:
    if not is_licensed():
        abort(403)
    return "done"


@situation("respond_async", "leave", "cache", method="POST", words="decides")
def condition_by_a_name() -> Any:
    licensed = is_licensed()
    if licensed:
        return "done"
    return "no", 403


def guard() -> None:
    time.sleep(SECONDS)
    if request.args.get("bad"):
        abort(403)


@situation("respond_async", "leave", method="POST", words="decides")
def helper_that_aborts() -> str:
    guard()
    return "done"


def save(record: int) -> None:
    time.sleep(SECONDS)
    if record < 0:
        raise ValueError


@situation("respond_async", "leave", method="POST", words="decides")
def handler_that_answers() -> Any:
    try:
        save(7)
    except ValueError:
        return "bad record", 400
    return "done"


class OutOfStock(Exception):
    pass


def reserve(amount: int) -> None:
    time.sleep(SECONDS)
    if amount > 9:
        raise OutOfStock


@situation("respond_async", "leave", method="POST", words="decides")
def error_handler_that_answers() -> str:
    reserve(7)
    return "done"


def validate_order(order: dict[str, int]) -> None:
    time.sleep(SECONDS)
    if order["amount"] < 0:
        raise ValueError


@situation("respond_async", "leave", method="POST", words="decides")
def validation() -> str:
    validate_order({"amount": 7})
    return "done"


@situation("leave", "cache", method="POST", words="decides")
def condition_and_session() -> Any:
    if not is_licensed():
        abort(403)
    session["user"] = 7
    return "done"


# --- it changes something ----------------------------------------------------------------------


class Account:
    def __init__(self) -> None:
        self.score = 0

    def rate(self) -> None:
        self.score = compute()


@situation("respond_async", "leave", method="POST", words="changes an object")
def method_that_changes_its_object() -> Any:
    account = Account()
    account.rate()
    return jsonify(account.score)


def fill(found: dict[str, int]) -> None:
    found["total"] = compute()


@situation("respond_async", "leave", method="POST", words="changes an object")
def argument_that_is_filled() -> Any:
    found: dict[str, int] = {}
    fill(found)
    return jsonify(found)


def geocode(author: Any) -> None:
    time.sleep(SECONDS)
    author.name = "Ada"


@situation("respond_async", "leave", method="POST", words="changes an object")
def row_that_is_changed_and_committed() -> Any:
    author = db.session.get(Author, 1)
    geocode(author)
    db.session.commit()
    return redirect("/")


def tag_all(books: list[str]) -> None:
    tag(books)


def tag(books: list[str]) -> None:
    time.sleep(SECONDS)
    books.append("tagged")


@situation("respond_async", "leave", method="POST", words="changes an object")
def argument_that_is_changed_further_in() -> Any:
    books: list[str] = []
    tag_all(books)
    return jsonify(books)


RATES: dict[str, int] = {}


def refresh() -> None:
    RATES["total"] = compute()


@situation("leave", "cache", method="POST", words="this process")
def data_of_the_process() -> str:
    refresh()
    return "done"


def remember() -> None:
    time.sleep(SECONDS)
    session["seen"] = True


@situation("leave", "cache", method="POST", words="session")
def helper_that_sets_the_session() -> str:
    remember()
    return "done"


def load_settings() -> None:
    time.sleep(SECONDS)
    g.settings = {}


@situation("leave", "cache", method="POST")
def helper_that_sets_g() -> str:
    load_settings()
    return str(g.settings)


# --- the session and cookies -------------------------------------------------------------------


@situation("cache", "leave", method="POST")
def used_and_session() -> Any:
    total = make_report()
    session["total"] = len(total)
    return total


@situation("cache", "leave", method="POST")
def used_and_cookie() -> Any:
    answer = make_response(make_report())
    answer.set_cookie("seen", "1")
    return answer


@situation("cache", "leave", method="POST")
def used_and_flashed() -> Any:
    flash(f"{len(make_report())} bytes")
    return redirect("/")


# --- only the first request --------------------------------------------------------------------


@situation("leave", words="first request")
def first_import() -> str:
    for name in ("slow_import", "slow_import_two"):
        sys.modules.pop(name, None)
    return str(importlib.import_module("slow_import").VALUE)


@situation("leave", words="first request")
def first_compilation() -> str:
    current_app.jinja_env.cache.clear()  # type: ignore[union-attr]
    return render_template("long.html")


@situation("leave", words="template file")
def text_that_is_compiled_each_time() -> str:
    return render_template_string("{% if a %}{{ b }}{% endif %}\n" * 700)


# --- rendering ---------------------------------------------------------------------------------


@situation("cache", words="rendering")
def long_table() -> str:
    return render_template("table.html", rows=range(150_000))


@situation("cache", "leave", "respond_async")
def slow_function_in_a_template() -> str:
    return render_template("slow.html", price=slow_price)


def slow_price() -> int:
    time.sleep(SECONDS)
    return 7


# --- the database ------------------------------------------------------------------------------


def all_books() -> Any:
    return db.session.execute(db.select(Book)).scalars().all()


@situation("query", words="The same statement ran 400 times")
def lazy_loads_in_the_view() -> Any:
    return jsonify([book.author.name for book in all_books()])


def author_of(book: Any) -> str:
    return str(book.author.name)


@situation("query", words="The same statement ran 400 times")
def lazy_loads_in_a_helper() -> Any:
    return jsonify([author_of(book) for book in all_books()])


@situation("query", words="The same statement ran 400 times")
def lazy_loads_in_a_template() -> str:
    return render_template("books.html", books=all_books())


@situation("query", words="The same statement ran 400 times")
def one_select_for_each_id() -> Any:
    names = []
    for number in range(1, BOOKS + 1):
        names.append(db.session.execute(db.select(Author.name).filter_by(id=number)).scalar_one())
    return jsonify(names)


SLOW_SQL = """
WITH RECURSIVE counter(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < 700000)
SELECT sum(n * n % 7) FROM counter
"""


@situation("query", words="EXPLAIN")
def one_slow_statement() -> str:
    return str(db.session.execute(text(SLOW_SQL)).scalar_one())


def total_sold() -> int:
    return int(db.session.execute(text(SLOW_SQL)).scalar_one())


@situation("query", words="EXPLAIN")
def one_slow_statement_in_a_helper() -> str:
    return str(total_sold())


@situation("query", words="EXPLAIN")
def slow_statement_of_sqlite3() -> str:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        return str(connection.execute(SLOW_SQL).fetchone()[0])


@situation("query", "task", "respond_async", method="POST", words="The same statement ran")
def many_inserts() -> str:
    for number in range(150):
        db.session.add(Author(name=f"author {number}"))
        db.session.commit()
    return "done"


# --- patterns, locks, uploads, streams ---------------------------------------------------------

NESTED = re.compile(r"(a|aa)+$")


@situation("leave", method="POST", words="pattern")
def pattern_in_the_view() -> str:
    return str(bool(NESTED.match("a" * 30 + "b")))


def is_valid(value: str) -> bool:
    return bool(re.match(r"(\w+\s?)+$", value))


@situation("leave", method="POST", words="pattern")
def pattern_in_a_helper() -> Any:
    return "done" if is_valid("a" * 21 + "!") else ("no", 400)


@situation("leave", method="POST", words="lock")
def waits_for_a_lock() -> str:
    lock = threading.Lock()
    lock.acquire()
    timer = threading.Timer(SECONDS, lock.release)
    timer.start()
    with lock:
        timer.join()
    return "done"


@situation("leave", "task")
def stream() -> Any:
    def rows() -> Iterator[str]:
        for _ in range(3):
            time.sleep(SECONDS / 3)
            yield "row\n"

    return Response(stream_with_context(rows()), mimetype="text/plain")


@situation("leave", "task")
def stream_with_a_length() -> Any:
    def rows() -> Iterator[str]:
        for _ in range(3):
            time.sleep(SECONDS / 3)
            yield "r"

    return Response(rows(), headers={"Content-Length": "3"})


# --- what looks like something else ------------------------------------------------------------


def wait_until_ready() -> None:
    began = time.monotonic()
    while time.monotonic() < began + SECONDS:
        time.sleep(0.01)


@situation("respond_async", "leave", method="POST", words="decides")
def helper_that_waits_for_something() -> str:
    wait_until_ready()
    return "done"


@situation("respond_async", "leave", method="POST", words="decides")
def view_that_waits_for_something() -> str:
    began = time.monotonic()
    while time.monotonic() < began + SECONDS:
        time.sleep(0.01)
    return "done"


GUARD = threading.Lock()


@situation("leave", method="POST", words="lock")
def lock_of_another_name() -> str:
    GUARD.acquire()
    threading.Timer(SECONDS, GUARD.release).start()
    with GUARD:
        return "done"


@functools.lru_cache
def load_model(number: int) -> int:
    return compute()


@situation("leave", "cache", words="only the first call")
def value_that_is_kept() -> str:
    return str(load_model(time.monotonic_ns()))


@situation("cache", "leave", method="POST")
def session_by_the_module() -> Any:
    total = make_report()
    flask.session["total"] = len(total)
    return total


@situation("cache", "leave", method="POST")
def session_that_is_imported_in_the_view() -> Any:
    from flask import session
    from flask import session as _  # noqa: F401

    session["total"] = 1
    return make_report()


@situation("cache", "leave", method="POST")
def cookie_by_its_header() -> Any:
    return make_report(), 200, {"Set-Cookie": "seen=1"}


def remember_user() -> None:
    session.permanent = True
    session.update(user=7)


@situation("cache", "leave", method="POST")
def session_in_a_helper() -> Any:
    remember_user()
    return make_report()


def store_row(name: str) -> None:
    db.session.add(Author(name=name))
    db.session.commit()
    time.sleep(SECONDS)


@situation("task", "respond_async", method="POST", words="store_row.enqueue")
def helper_that_stores_a_row() -> str:
    store_row("Ada")
    return "done"


COUNTS: dict[str, int] = {}
RECENT: list[str] = []


def note(word: str) -> None:
    time.sleep(SECONDS)
    RECENT.append(word)


@situation("leave", "cache", method="POST", words="this process")
def list_of_the_process() -> str:
    note("bought")
    return "done"


def count(word: str) -> None:
    global LAST
    time.sleep(SECONDS)
    LAST = word


LAST = ""


@situation("leave", "cache", method="POST", words="this process")
def global_name() -> str:
    count("bought")
    return "done"


@situation("respond_async", "cache", "leave", method="POST")
def answer_of_a_service_is_checked() -> Any:
    answer = requests.post(url(), json={"amount": 7}, timeout=5)
    if answer.status_code != 200:
        abort(502)
    return "done"


@situation("respond_async", "cache", "leave", method="POST")
def service_in_a_try() -> Any:
    try:
        requests.post(url(), json={"amount": 7}, timeout=5)
    except requests.RequestException:
        return "try again", 503
    return "done"


@situation("task", "respond_async", method="POST")
def errors_are_suppressed() -> str:
    with contextlib.suppress(requests.RequestException):
        requests.post(url(), json={"order": 7}, timeout=5)
    return "done"


def process(record: int) -> None:
    save_record(record)


def save_record(record: int) -> None:
    time.sleep(SECONDS)


@situation("respond_async", "leave", method="POST", words="decides")
def handler_further_out() -> Any:
    try:
        process(7)
    except OSError:
        return "bad record", 400
    return "done"


class Report:
    def __init__(self, year: int) -> None:
        self.total = compute()


@situation("respond_async", "cache", "task", method="POST", words='always=["POST"]')
def made_by_a_class() -> Any:
    return jsonify(Report(2024).total)


@situation("respond_async", "cache", "task", method="PUT", words='always=["PUT"]')
def method_put() -> Any:
    return make_report()


@situation("cache", "respond_async")
def service_in_a_loop() -> Any:
    return jsonify([httpx.get(url(), timeout=5).status_code for _ in range(3)])


@situation("query", words="EXPLAIN")
def slow_statement_and_session() -> str:
    session["total"] = total_sold()
    return "done"


# --- around the view ---------------------------------------------------------------------------


def find_token() -> bool:
    time.sleep(SECONDS)
    return True


def token_required(view: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not find_token():
            abort(401)
        return view(*args, **kwargs)

    return wrapper


@situation("leave", "cache", method="POST", words="decides")
@token_required
def slow_decorator() -> str:
    return "done"


@situation("cache", "leave", words="before_request")
def slow_before_request() -> str:
    return "done"


@situation("task", words="after_request")
def slow_after_request() -> str:
    return "done"


@situation("task", words="audit.enqueue")
def slow_teardown() -> str:
    return "done"


def make_app(settings: Any) -> Flask:
    """The app with all situations, and a database in memory."""
    from flask_offload.profiler.install import install

    app = Flask(__name__, template_folder=str(Path(__file__).parent / "advice_templates"))
    app.secret_key = "x"
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db.init_app(app)
    for path, (view, methods) in _VIEWS.items():
        app.add_url_rule(path, view.__name__, view, methods=methods)
    shop = Blueprint("shop", __name__, url_prefix="/shop")
    shop.add_url_rule("/signup", view_func=Signup.as_view("signup"))
    app.register_blueprint(shop)
    app.register_error_handler(OutOfStock, lambda error: ("out of stock", 409))
    _add_hooks(app)
    install(app, settings)
    with app.app_context():
        db.create_all()
        db.session.add_all(
            [Author(id=n, name=html.escape(f"author {n}")) for n in range(1, BOOKS + 1)]
        )
        db.session.add_all(
            [Book(id=n, title=f"book {n}", author_id=n) for n in range(1, BOOKS + 1)]
        )
        db.session.commit()
    return app


SITUATIONS.append(
    Situation("POST", "/shop/signup", "task", ("respond_async",), "send_mail.enqueue")
)


def _add_hooks(app: Flask) -> None:
    @app.before_request
    def load_tenant() -> None:
        if request.path == "/slow_before_request":
            g.tenant = find_token()

    @app.after_request
    def log_response(response: Response) -> Response:
        if request.path == "/slow_after_request":
            requests.post(url(), json={}, timeout=5)
        return response

    @app.teardown_request
    def report_usage(error: BaseException | None) -> None:
        if request.path == "/slow_teardown":
            audit("used")
