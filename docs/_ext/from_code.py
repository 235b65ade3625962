"""`{from-code} WHAT`: Markdown made from the code while the site is built."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import click
from docutils import nodes
from messages import GAP, error_messages, log_messages
from sphinx.util.docutils import SphinxDirective

import flask_offload
from flask_offload import errors, signals
from flask_offload.cli import offload_group

REMEDIES: dict[str, str] = {
    "DatabaseLocked": "[Settings](../configuration.md): `OFFLOAD_BUSY_TIMEOUT`",
    "DatabaseTooNew": "[Upgrading](../upgrading.md)",
    "DatabaseCorrupt": "[Backup and restore](../howto/deployment.md#backup-and-restore)",
    "NetworkFilesystem": "[PostgreSQL](../postgres.md), for several machines",
    "ConfigError": "[Settings](../configuration.md)",
    "OptionError": "[Task options](../control.md)",
    "UnsupportedByEngine": "[Engines](../engines.md): what each can do",
    "PayloadError": "[Arguments and results](../payload.md)",
    "UnknownTask": "[Deployment](../howto/deployment.md): workers run the web processes' code",
    "JobTimeout": "[Timeouts and cancelling](../control.md#timeouts-and-cancelling)",
    "Retry": "[Retries](../retries.md)",
}
"""The page that says more, for an error and those below it."""


def error_classes() -> list[type[errors.OffloadError]]:
    """Every error of the package, in the order of its definition."""
    return [
        thing
        for thing in vars(errors).values()
        if inspect.isclass(thing) and issubclass(thing, errors.OffloadError)
    ]


def troubleshooting() -> Iterator[str]:
    """A section for each error class: the sentence, what it is, where to read on, its messages."""
    messages = error_messages({error.__name__ for error in error_classes()})
    for error in error_classes():
        name = error.__name__
        public = "flask_offload" if name in flask_offload.__all__ else "flask_offload.errors"
        yield f"### {name}\n"
        yield f"> {' '.join(inspect.getdoc(error).split())}\n"  # type: ignore[union-attr]
        above = error.__mro__[1].__name__
        line = f"`from {public} import {name}`"
        if above != "Exception":
            line += f"; a kind of [{above}](#{above.lower()})"
        pages = [REMEDIES[base.__name__] for base in error.__mro__ if base.__name__ in REMEDIES]
        yield line + (f". Read on: {pages[0]}.\n" if pages else ".\n")
        yield "\n".join(f"- {_literal(text)}" for text in messages[name]) + "\n"


def log_list() -> Iterator[str]:
    """Every line of the log: its action, its level and its message."""
    yield "| `action` | level | message |\n|---|---|---|"
    for level, action, text in log_messages():
        text = re.sub(r"%[\d.]*[a-z]", GAP, text)
        yield f"| `{action}` | {level} | {_cell(_literal(text))} |"


def signal_list() -> Iterator[str]:
    """The signals, as the docstring of `flask_offload.signals` describes them."""
    yield inspect.getdoc(signals) or ""


def commands() -> Iterator[str]:
    """Every command with its arguments and options."""
    context = click.Context(offload_group, info_name="flask offload")
    for name in offload_group.list_commands(context):
        command = offload_group.get_command(context, name)
        assert command is not None
        below = click.Context(command, info_name=name, parent=context)
        usage = " ".join(command.collect_usage_pieces(below))
        yield f"## {name}\n\n```text\nflask offload {name} {usage}\n```\n"
        yield _help(command.help or "") + "\n"
        options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        if options:
            yield "| option | meaning |\n|---|---|"
        for option in options:
            names = ", ".join(f"`{text}`" for text in option.opts + option.secondary_opts)
            if not option.is_flag:
                metavar = option.make_metavar(below)
                names += f" {_cell(metavar.removesuffix(' RANGE'))}"
            yield f"| {names} | {_cell(option.help or '')} |"
        yield ""


def addresses() -> Iterator[str]:
    """Every HTTP address, from the OpenAPI document that the app serves."""
    path = importlib.resources.files("flask_offload.web") / "openapi.json"
    document = json.loads(path.read_text())
    for address, methods in document["paths"].items():
        for method, operation in methods.items():
            if method not in {"get", "post", "put", "delete", "patch"}:
                continue
            yield f"## {method.upper()} {address}\n"
            yield operation.get("description") or operation.get("summary", "")
            yield "\n| status | meaning |\n|---|---|"
            for status, response in operation["responses"].items():
                while "$ref" in response:
                    response = _resolve(document, response["$ref"])
                yield f"| {status} | {_cell(response.get('description', ''))} |"
            yield ""


def _resolve(document: Any, ref: str) -> Any:
    for key in ref.removeprefix("#/").split("/"):
        document = document[key]
    return document


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _literal(text: str) -> str:
    """Text as it is, also with the signs that mean something in Markdown."""
    return re.sub(r"([\\`*_<>\[\]{}$#~])", r"\\\1", text).replace("...", "…")


def _help(text: str) -> str:
    r"""Click's help as Markdown: a paragraph after \b keeps its lines."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        "```text\n" + part.removeprefix("\b\n") + "\n```" if part.startswith("\b") else part
        for part in paragraphs
    )


MAKERS: dict[str, Callable[[], Iterator[str]]] = {
    "troubleshooting": troubleshooting,
    "log": log_list,
    "signals": signal_list,
    "commands": commands,
    "addresses": addresses,
}


class FromCode(SphinxDirective):
    """Insert what MAKERS makes, as if it stood in the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # the page is unchanged when the code is not
        text = "\n".join(MAKERS[self.arguments[0]]())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


_ITEM = re.compile(r"\s*(-|\d+\.) ")
_PART = re.compile(r"\w+(, \w+)*: |Raises ")


def plain_docstring(*arguments: Any) -> None:
    """Docstrings are plain text with `code`: make its paragraphs and lists reStructuredText.

    A line `name: meaning`, or one that begins with Raises, is a paragraph of its own. What it
    continues with is indented in the source, and here it is not.
    """
    lines: list[str] = arguments[-1]
    made: list[str] = []
    literal = in_prose = False
    for line in lines:
        before = made[-1] if made else ""
        if literal and line and not line.startswith(" "):
            literal = False
        if not literal and before.strip():
            in_list = _ITEM.match(before) or before.startswith(" ")
            if _PART.match(line) or (_ITEM.match(line) and not in_list):
                made.append("")
            elif line.startswith(" ") and not in_list:
                line = line.lstrip()
        elif not literal and line.startswith("    ") and in_prose:
            made += ["::", ""]  # an indented block after a paragraph is code
            literal = True
        if line.strip():
            in_prose = not (_ITEM.match(line) or line.startswith(" "))
        literal = literal or line.endswith("::")
        made.append(line)
    lines[:] = made


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("from-code", FromCode)
    app.connect("autodoc-process-docstring", plain_docstring)
    return {"parallel_read_safe": True}
