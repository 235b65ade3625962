"""The least Django that django-tasks-db runs in."""

import os
from importlib.util import find_spec
from pathlib import Path

SECRET_KEY = "bench"
USE_TZ = True
# Django has tasks of its own from 6.0 on; before, a package brings them
INSTALLED_APPS = [
    *([] if find_spec("django.tasks") else ["django_tasks"]),
    "django_tasks_db",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ["BENCH_FOLDER"], "django.sqlite3"),
    }
}
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
