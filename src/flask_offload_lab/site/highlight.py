"""Python code as HTML with a few classes: the standard library's tokenizer knows enough."""

from __future__ import annotations

import builtins
import inspect
import io
import keyword
import re
import tokenize
from collections.abc import Callable, Iterator
from typing import Any

from markupsafe import Markup, escape

KINDS = {tokenize.STRING: "str", tokenize.COMMENT: "com", tokenize.NUMBER: "num"}


def highlight(code: str) -> Markup:
    """The code with `<span class="…">`: kw, str, com, num, def, deco, self for builtins and self.

    Text that is no complete Python comes back escaped and without colours.
    """
    try:
        return Markup("").join(_pieces(code))
    except (tokenize.TokenError, SyntaxError):
        return escape(code)


def lines(code: str) -> list[Markup]:
    """The highlighted code line by line; no span reaches over the end of a line."""
    return [Markup(line) for line in highlight(code).split("\n")]


def with_code(text: str) -> Markup:
    """A sentence with its `code` between backticks as <code>."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def source(thing: Callable[..., Any]) -> str:
    """The code of a function as it stands in its file, decorators included."""
    return inspect.getsource(inspect.unwrap(thing)).rstrip()


def _pieces(code: str) -> Iterator[Markup]:
    """Everything in order, so that nothing of the text is lost."""
    offsets = [0]
    for line in code.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    done = 0
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        start = offsets[token.start[0] - 1] + token.start[1] if token.string else done
        yield escape(code[done:start])
        yield _piece(token, before)
        done = start + len(token.string)
        before = token.string.strip() or before
    yield escape(code[done:])


def _piece(token: tokenize.TokenInfo, before: str) -> Markup:
    kind = KINDS.get(token.type)
    if token.type == tokenize.NAME:
        kind = _kind_of_name(token.string, before)
    elif token.string == "@":
        kind = "deco"
    if kind is None:
        return escape(token.string)
    return Markup("\n").join(
        Markup('<span class="{}">{}</span>').format(kind, part) if part else Markup("")
        for part in token.string.split("\n")
    )


def _kind_of_name(name: str, before: str) -> str | None:
    if before in ("def", "class"):
        return "def"
    if before == "@":
        return "deco"
    if keyword.iskeyword(name) or (name in ("match", "case") and before in ("", ":")):
        return "kw"
    if name in ("self", "cls") or hasattr(builtins, name):
        return "self"
    return None
