"""The least Django that django-tasks-db runs in."""

import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

SECRET_KEY = "bench"
USE_TZ = True
# Django has tasks of its own from 6.0 on; before, a package brings them
INSTALLED_APPS = [
    *([] if find_spec("django.tasks") else ["django_tasks"]),
    "django_tasks_db",
]
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": Path(os.environ["BENCH_FOLDER"], "django.sqlite3"),
}
URL = urlsplit(os.environ["BENCH_URL"])
POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": URL.path[1:],
    "USER": URL.username,
    "HOST": URL.hostname,
    "PORT": URL.port,
    "OPTIONS": {"options": f"-c search_path={os.environ['BENCH_PLACE']}"},
    "CONN_MAX_AGE": None,
}
DATABASES = {"default": POSTGRES if URL.scheme else SQLITE}
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
