"""The sentences of errors and of the log, read from the source."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import flask_offload

SOURCE = Path(flask_offload.__file__).parent
GAP = "…"
"""Stands for what a message gets when it is raised or logged."""
RAISED_AS = {"Refused": "PayloadError"}
"""Exceptions within the package that reach the user as another."""
LEAST = 12
"""Characters besides gaps: what has fewer can't be searched for."""

Values = dict[str, list[ast.expr]]


class LogMessage(NamedTuple):
    """A line of the log."""

    level: str
    action: str
    text: str


def error_messages(names: set[str]) -> dict[str, list[str]]:
    """For each of these error classes, the messages with which it is raised."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for call, values in _calls():
        if isinstance(call.func, ast.Name) and call.args:
            name = RAISED_AS.get(call.func.id, call.func.id)
            for text in _texts(call.args[0], values) if name in names else ():
                if text not in found[name]:
                    found[name].append(text)
    return found


def log_messages() -> list[LogMessage]:
    """What is logged with an `action`, by its name: log.write(logging.LEVEL, "action", message)."""
    found = set()
    for call, values in _calls():
        if len(call.args) < 3:
            continue
        level, action, *rest = call.args
        if not isinstance(level, ast.Attribute) or level.attr not in logging.getLevelNamesMapping():
            continue
        if not isinstance(action, ast.Constant):
            continue
        if isinstance(rest[0], ast.Name) and len(rest) > 1 and rest[0].id == "claim":
            rest = rest[1:]  # jobs/log.py: the message about an attempt
        texts = _texts(rest[0], values)
        found |= {LogMessage(level.attr, str(action.value), text) for text in texts}
    return sorted(found, key=lambda message: (message.action, message.text))


def _calls() -> Iterator[tuple[ast.Call, Values]]:
    """Every call within a function, and the values of the names there: what is assigned to a
    variable, and what a function of the module returns."""
    for path in sorted(SOURCE.rglob("*.py")):
        functions = [
            node
            for node in ast.walk(ast.parse(path.read_text(), str(path)))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        returned: Values = {
            function.name: [
                node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Return) and node.value
            ]
            for function in functions
        }
        for function in functions:
            values = dict(returned)
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    name = node.targets[0].id
                    values[name] = [*values.get(name, []), node.value]
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    yield node, values


def _texts(node: ast.expr, values: Values) -> Iterator[str]:
    """What the expression may become, with a gap for each value, if enough of it is fixed."""
    named = node.func if isinstance(node, ast.Call) else node
    found = values.get(named.id, []) if isinstance(named, ast.Name) else [node]
    for text in (text for value in found for text in _parts(value)):
        if len(text.replace(GAP, "").replace("%s", "").strip()) >= LEAST:
            yield " ".join(text.split())


def _parts(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(_parts(value)[0] for value in node.values)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [left + right for left in _parts(node.left) for right in _parts(node.right)]
    if isinstance(node, ast.IfExp):
        return [*_parts(node.body), *_parts(node.orelse)]
    return [GAP]
