"""How another process can import the app that this one serves."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from pathlib import Path
from typing import Any

import click
from flask import Flask
from flask.cli import ScriptInfo

EXIT_IMPORT = 78
"""How a worker ends that can't import the app, so that starting it again won't help: EX_CONFIG of
sysexits.h."""

FACTORIES = ("create_app", "make_app")  # the names that Flask looks for


def import_targets(app: Flask, given: str | None, context: click.Context | None) -> list[str]:
    """What may be given to `flask --app`, the likeliest first; "" is what Flask finds by itself.

    given: OFFLOAD_APP. context: the command under which the app was made, if any.
    """
    if given:
        return [given]
    script = context.find_object(ScriptInfo) if context is not None else None
    if script is not None:
        return ["" if script.create_app is not None else str(script.app_import_path or "")]
    found = (_global_name(app), _server_argument(), _factory(app), os.environ.get("FLASK_APP"))
    return list(dict.fromkeys(target for target in found if target))


def flask_command() -> click.Context | None:
    """The command of Flask that runs. uvicorn's and granian's own are made with Click too, but
    they are servers."""
    context = click.get_current_context(silent=True)
    is_flask = context is not None and context.find_object(ScriptInfo) is not None
    return context if is_flask else None


def cli_words(context: click.Context | None) -> list[str]:
    """What starts the command line of this app, as Python's arguments: `-m flask`, or that of a
    `FlaskGroup(create_app=…)` with the options that were given to it."""
    script = context.find_object(ScriptInfo) if context is not None else None
    if context is None or script is None or script.create_app is None:
        return ["-m", "flask"]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    words = ["-m", str(spec.name).removesuffix(".__main__")] if spec else sys.argv[:1]
    options, name = sys.argv[1:], context.info_name
    return words + (options[: options.index(name)] if name in options else [])


def _global_name(app: Flask) -> str | None:
    """`module:name` of a module-level variable that is the app.

    The script that runs is taken only if it is where the app was made: importing any other would
    run it again.
    """
    modules = sorted(
        (
            item
            for item in list(sys.modules.items())
            if item[1] is not None and (item[0] != "__main__" or app.import_name == "__main__")
        ),
        key=lambda item: item[0] != app.import_name,  # the likely one first
    )
    for module_name, module in modules:
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is app and name.isidentifier():
                importable = _importable(module_name, module)
                return importable and f"{importable}:{name}"
    return None


def _importable(module_name: str, module: Any) -> str | None:
    """The name by which another process can import it; None for code from `-c` or stdin."""
    if module_name != "__main__":
        return module_name
    spec = getattr(module, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name)
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if file else None  # links are kept


def _server_argument() -> str | None:
    """`gunicorn 'pkg:create_app("x")'` and its like: the app is named on the command line."""
    for argument in sys.argv[1:]:
        match = re.fullmatch(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*(?:\(.*\))?)", argument)
        if match and match[1] in sys.modules:
            return argument
    return None


def _factory(app: Flask) -> str | None:
    module = sys.modules.get(app.import_name)
    if module is not None and any(hasattr(module, name) for name in FACTORIES):
        return _importable(app.import_name, module)
    return None


def is_installed(path: Path) -> bool:
    """Whether this belongs to Python or to an installed package."""
    standard = (Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
    return any(path.is_relative_to(place) for place in standard)


def python_path() -> str:
    """The places from which this process imports the app's own modules, for PYTHONPATH."""
    own = []
    for entry in sys.path:
        path = Path(entry or ".").resolve()
        if not is_installed(path) and path.suffix != ".zip":
            own.append(str(path))
    return os.pathsep.join(dict.fromkeys(own))
