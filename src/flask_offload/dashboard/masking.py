"""Arguments and results as the dashboard shows them: without what their names say is secret."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from ..tasks.task import Task

MASK = "••••••"
LONG = 5
"""Letters from which a word is looked for inside of names: `userpassword`. Shorter ones, such as
`key`, have to be a word of the name or its end: `apiKey`, `passkey`, not `keyword`."""
LONGEST = 10_000
"""Characters of one text that are shown."""
NAMES = ("name", "key", "field", "header", "variable", "option")
"""Keys of an object whose value names what the object's other values are."""
URL_PASSWORD = re.compile(r"(\w://[^\s/?#:@]*:)[^\s/?#@]+(?=@)")
ASSIGNED = re.compile(
    r"""((?<![\w.\-])(?P<name>[\w.\-]{2,80})["']?\s*[:=]\s*(?:(?:Basic|Bearer|Token)\s+)?)"""
    r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s&;,"']+)""",
    re.IGNORECASE,
)
"""A name and its value inside of a text: of a query, a header, a setting, an option."""

WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


class Masking:
    """words: of OFFLOAD_DASHBOARD_MASK."""

    def __init__(self, words: Iterable[str]) -> None:
        lower = {word.lower() for word in words}
        self._long = tuple(word for word in lower if len(word) >= LONG)
        self._short = tuple(word for word in lower if len(word) < LONG)

    def hides(self, name: str) -> bool:
        """Whether a value of this name is secret."""
        lower = re.sub(r"[\W_]", "", name.lower())
        if any(word in lower for word in self._long):
            return True
        words = [word.lower().removesuffix("s") for word in WORDS.findall(name)]
        return any(word in words or lower.endswith((word, f"{word}s")) for word in self._short)

    def masked(self, value: Any) -> Any:
        """The JSON value without its secrets, at any depth. A name and its value may be an entry of
        a dict, a pair (`["token", …]`, as forms and headers are stored), an object
        (`{"name": "token", "value": …}`), an option of a command (`"--token", …`) or text."""
        if isinstance(value, dict):
            return self._masked_dict(value)
        if isinstance(value, list):
            return self._masked_list(value)
        return self._masked_text(value) if isinstance(value, str) else value

    def _masked_dict(self, value: dict[str, Any]) -> dict[str, Any]:
        names = [inner for key, inner in value.items() if key.lower() in NAMES]
        is_named = any(isinstance(name, str) and self.hides(name) for name in names)
        return {
            key: MASK
            if self.hides(key) or (is_named and key.lower() not in NAMES)
            else self.masked(inner)
            for key, inner in value.items()
        }

    def _masked_list(self, value: list[Any]) -> list[Any]:
        before = ["", *value]
        return [
            MASK
            if isinstance(name, str)
            and (len(value) == 2 or name.startswith("-"))
            and self.hides(name)
            else self.masked(inner)
            for name, inner in zip(before, value, strict=False)
        ]

    def _masked_text(self, text: str) -> str:
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]} … ({len(text):,} characters)"
        if text[:1] in ("{", "["):
            with suppress(ValueError, RecursionError):
                return json.dumps(self.masked(json.loads(text)), ensure_ascii=False)
        text = URL_PASSWORD.sub(rf"\1{MASK}", text)
        return ASSIGNED.sub(
            lambda found: f"{found[1]}{MASK}" if self.hides(found["name"]) else found[0], text
        )

    def arguments(self, stored: str, task: Task[Any, Any] | None) -> list[tuple[str, str]] | None:
        """(name, value) of each argument; None if they may not be shown. stored: JSON."""
        if task is None or not task.options.expose_args:
            return None  # without the task, nothing says what a positional argument is
        args, kwargs = json.loads(stored)
        shown = [*zip(_names(task, len(args)), args, strict=True), *kwargs.items()]
        return [
            (name, MASK if self.hides(name) else text_of(self.masked(value)))
            for name, value in shown
        ]

    def shows(self, stored: str, task: Task[Any, Any] | None, text: str) -> bool:
        """Whether a text is in what is shown of the arguments, whatever the case: a search must not
        find what is hidden, which would reveal it letter by letter. stored: JSON."""
        if task is None or not task.options.expose_args:
            return False
        args, kwargs = json.loads(stored)
        named = [*zip(_names(task, len(args)), args, strict=True), *kwargs.items()]
        shown = [self.masked({name: value}) for name, value in named]
        compact = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
        return text.lower() in compact.lower()

    def result(self, stored: str | None, task: Task[Any, Any] | None) -> str | None:
        """The return value; None if there is none, or it may not be shown. stored: JSON."""
        if stored is None or task is None or not task.options.expose_args:
            return None
        return text_of(self.masked(json.loads(stored)))


def _names(task: Task[Any, Any], count: int) -> list[str]:
    """The names of the first `count` positional parameters; `name[2]` for those of `*name`."""
    names: list[str] = []
    for name, parameter in inspect.signature(task.function).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{name}[{number}]" for number in range(count - len(names))]
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            names.append(name)
    names += [f"[{number}]" for number in range(len(names), count)]
    return names[:count]


def text_of(value: Any) -> str:
    """A JSON value as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
