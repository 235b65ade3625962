"""What kind of work a library does, as far as advice depends on it.

Known by the names of its modules and functions on the stack, and, for functions written in C, by
the name at the place of the call.
"""

from __future__ import annotations

from enum import StrEnum
from types import CodeType
from typing import Any


class Activity(StrEnum):
    """The kinds of work that differ for advice."""

    COMPILE = "compiling a template"
    COMPILE_TEXT = "compiling a template that is no file"
    CONNECT = "opening a connection to the database"
    DATABASE = "database"
    HASH = "hashing a password"
    HTTP = "an HTTP request"
    IMPORT = "an import"
    LOCK = "waiting for a lock"
    MAIL = "mail"
    PATTERN = "matching a pattern"
    PROCESS = "a program"
    RENDER = "rendering"
    SLEEP = "sleeping"
    THREAD = "waiting for another thread"
    UPLOAD = "reading the request"


OUTWARD = frozenset({Activity.MAIL, Activity.HTTP, Activity.PROCESS, Activity.SLEEP})
"""Activities whose effect is outside of this process."""

_FUNCTIONS = {
    ("importlib._bootstrap", "_find_and_load"): Activity.IMPORT,
    ("jinja2.environment", "from_string"): Activity.COMPILE_TEXT,
    ("jinja2.loaders", "load"): Activity.COMPILE,
    ("sqlalchemy.engine.base", "raw_connection"): Activity.DATABASE,
    ("sqlalchemy.engine.default", "connect"): Activity.CONNECT,
    ("sqlalchemy.pool.base", "__connect"): Activity.CONNECT,
    ("sqlalchemy.orm.mapper", "_configure_registries"): Activity.CONNECT,
    ("psycopg.connection", "connect"): Activity.CONNECT,
    ("psycopg_pool.pool", "getconn"): Activity.CONNECT,
    ("pymysql.connections", "connect"): Activity.CONNECT,
    ("redis.connection", "connect"): Activity.CONNECT,
    ("urllib.request", "urlopen"): Activity.HTTP,
    ("concurrent.futures._base", "result"): Activity.THREAD,
    ("concurrent.futures._base", "wait"): Activity.THREAD,
    ("concurrent.futures._base", "result_iterator"): Activity.THREAD,
    ("concurrent.futures.thread", "shutdown"): Activity.THREAD,
    ("multiprocessing.pool", "get"): Activity.THREAD,
    ("queue", "get"): Activity.THREAD,
    ("threading", "join"): Activity.THREAD,
    ("threading", "wait"): Activity.THREAD,
    ("threading", "acquire"): Activity.LOCK,
}
_MODULES = {
    "argon2": Activity.HASH,
    "bcrypt": Activity.HASH,
    "flask_bcrypt": Activity.HASH,
    "passlib": Activity.HASH,
    "pwdlib": Activity.HASH,
    "nacl.pwhash": Activity.HASH,
    "cryptography.hazmat.primitives.kdf": Activity.HASH,
    "werkzeug.security": Activity.HASH,
    "jinja2.compiler": Activity.COMPILE,
    "jinja2.lexer": Activity.COMPILE,
    "jinja2.parser": Activity.COMPILE,
    "werkzeug.formparser": Activity.UPLOAD,
    "werkzeug.sansio.multipart": Activity.UPLOAD,
    "aiohttp": Activity.HTTP,
    "botocore": Activity.HTTP,
    "http.client": Activity.HTTP,
    "httpcore": Activity.HTTP,
    "httpx": Activity.HTTP,
    "niquests": Activity.HTTP,
    "requests": Activity.HTTP,
    "urllib3": Activity.HTTP,
    "flask_mail": Activity.MAIL,
    "flask_mailman": Activity.MAIL,
    "smtplib": Activity.MAIL,
    "re": Activity.PATTERN,
    "regex": Activity.PATTERN,
    "subprocess": Activity.PROCESS,
    "asyncpg": Activity.DATABASE,
    "flask_sqlalchemy": Activity.DATABASE,
    "mongoengine": Activity.DATABASE,
    "mysql": Activity.DATABASE,
    "MySQLdb": Activity.DATABASE,
    "oracledb": Activity.DATABASE,
    "peewee": Activity.DATABASE,
    "pony": Activity.DATABASE,
    "psycopg": Activity.DATABASE,
    "psycopg2": Activity.DATABASE,
    "pymongo": Activity.DATABASE,
    "pymysql": Activity.DATABASE,
    "sqlalchemy": Activity.DATABASE,
    "sqlite3": Activity.DATABASE,
}
_WEAK = frozenset({Activity.THREAD, Activity.LOCK, Activity.PATTERN})
"""What other libraries use inside: they do not count within another activity."""
_NOT_WITHIN = {Activity.COMPILE_TEXT: frozenset({Activity.COMPILE}), Activity.MAIL: _WEAK}

_IN_C = {
    "time.sleep": Activity.SLEEP,
    "hashlib.pbkdf2_hmac": Activity.HASH,
    "hashlib.scrypt": Activity.HASH,
    "_hashlib.pbkdf2_hmac": Activity.HASH,
    "_hashlib.scrypt": Activity.HASH,
    "crypt.crypt": Activity.HASH,
    "os.system": Activity.PROCESS,
}
_METHODS_IN_C = {
    **dict.fromkeys(
        ("execute", "executemany", "executescript", "fetchall", "fetchone", "fetchmany", "commit"),
        Activity.DATABASE,
    ),
    **dict.fromkeys(("fullmatch", "match", "search", "findall", "finditer"), Activity.PATTERN),
    "acquire": Activity.LOCK,
    "derive": Activity.HASH,
}


def of_frame(module: str, code: CodeType, within: Activity | None) -> Activity | None:
    """The activity of a library's frame, which runs within that of the frames around it."""
    found = _FUNCTIONS.get((module, code.co_name)) or _of_module(module)
    if found is None or (within is not None and found in _WEAK):
        return within
    if within is not None and found in _NOT_WITHIN.get(within, ()):
        return within
    return found


def _of_module(module: str) -> Activity | None:
    """The activity that a module, or a package around it, stands for."""
    while module and module not in _MODULES:
        module = module.rpartition(".")[0]
    return _MODULES.get(module)


def of_call(name: str | None, full_name: str | None, value: Any) -> Activity | None:
    """The activity of a call that stands in user code and runs in C.

    name: as it is written (`cursor.execute`). full_name: with the module that it comes from. value:
    what the first part of the name refers to in the module; None when that is not known.
    """
    if name is None:
        return None
    if name.startswith("with "):
        return Activity.LOCK  # what else is entered in C does not take long
    whole = full_name or name
    known = _IN_C.get(whole) or _of_module(whole.rpartition(".")[0])
    if known is not None:
        return known
    receiver, _, method = name.rpartition(".")
    found = _METHODS_IN_C.get(method) if receiver else None
    if found is Activity.PATTERN and type(value).__name__ not in ("Pattern", "NoneType"):
        return None
    return found
