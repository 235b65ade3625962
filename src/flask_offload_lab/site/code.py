"""Python code, and `code` in sentences, as HTML."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pygments
from markupsafe import Markup, escape
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

_LEXER = PythonLexer(stripnl=False, ensurenl=False)
_FORMATTER: HtmlFormatter[str] = HtmlFormatter(nowrap=True, lineseparator="\n")


def highlight(code: str) -> Markup:
    """The code with the CSS classes of Pygments; no span reaches over the end of a line."""
    html = pygments.highlight(code, _LEXER, _FORMATTER)
    return Markup(html if code.endswith("\n") else html.removesuffix("\n"))


def with_code(text: str) -> Markup:
    """A sentence with its `code` between backticks as <code>."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def source(thing: Callable[..., Any]) -> str:
    """The code of a function as it is in its file, decorators included."""
    return inspect.getsource(inspect.unwrap(thing)).rstrip()
