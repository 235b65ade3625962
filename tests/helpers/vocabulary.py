"""Words that are retired: a plain word of the field has taken the place of each.

`python tests/helpers/vocabulary.py` lists where they still stand; `--counts` prints LEFT anew.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

# Names and prose, as regular expressions over text whose CamelCase is split by underscores.
RETIRED: Mapping[str, str] = {
    # names
    "ambush(es|ed)?": "kill point",
    "app_?name": "app locator",
    "bells?": "notifier",
    "clerks?": "maintenance",
    "clubs?": "sample app",
    "companions?": "progress monitor",
    "crews?": "pool",
    "culprits?": "attribution, the function that blocks",
    "entrances?": "producer",
    "hand_out": "submit",
    "innocent": "bystander",
    "last_(rites|words)": "exit outcome, final write timeout",
    "ledgers?": "store",
    "liveness": "worker locks",
    "mute": "unresponsive",
    "neighbours?": "peers",
    "obituar(y|ies)|bury": "crash event, on_exit",
    "offices?": "connections",
    "performers?": "executor",
    "pills?": "poison tasks",
    "regrets": "rollback",
    "seams?": "engine API",
    "spott(er|ing)": "profiler, middleware",
    "unrest": "crash cooldown",
    "upkeep": "maintenance",
    "watchdogs?": "sampler",
    # prose
    "tells|hears": "reports, receives",
    "whoever": "the process that, a client that",
    "nobody": "no process, no one",
    "mend(s|ed)?": "fix",
    "ours": "of Flask-Offload",
    "comes_of_it|comes of it": "the outcome",
    "(is|are|was|were|been) told": "is reported",
    "in the end": "at last, or nothing",
    "see the module": "what a reader needs, here",
}

# For the README, the docs, the examples and src: its sentences and docstrings are read, too.
PROSE: Mapping[str, str] = {
    r"\d %(?!\}| [\d(])": "40%",
    "anew": "again",
    "and its kind": "and similar ones",
    "as it comes": "with default settings",
    "as one likes": "as you like",
    "by care of": "which you have to ensure",
    "everybody": "everyone",
    "for ever": "forever, or stuck",
    "in peace": "by itself",
    "lies? (at|before|below|beside|between|beyond|in|on)": "is at, before, below",
    "plumbing": "set-up code",
    "shall": "will, is to",
    "somebody": "someone, another program",
    "so has": "so does",
    "stands? (beside|in|on) (the|its|a)": "is beside, in, on",
    "that which": "the one that, what",
    "what becomes of": "what happens to",
    "whatever else": "anything else",
}

# How many still stand in each folder. A number may only fall: lower it here.
LEFT: Mapping[str, int] = {
    "src/flask_offload/cli": 2,
    "src/flask_offload/measure": 1,
    "tests/measure": 2,
}

# Classes of one name in several modules of src, until one of them has another name.
DOUBLED: frozenset[str] = frozenset()

FOLDERS = ("src", "docs", "tests", "torture", "benchmarks", "examples")
FILES = ("README.md", "CONTRIBUTING.md", "Makefile")
SUFFIXES = {".py", ".md", ".html", ".toml", ".js", ".css", ".lua", ".c"}
# These files name the words; decisions are history, and quote what was there.
LEFT_OUT = (
    "tests/helpers/vocabulary.py",
    "tests/unit/test_hygiene.py",
    "docs/decisions/",
    "docs/evidence/moved-modules.md",
)

READ = ("docs", "examples")


def _any_of(*expressions: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z])({'|'.join(expressions)})(?![a-z])", re.IGNORECASE)


_WORD = _any_of(*RETIRED)
_WORD_OF_PROSE = _any_of(*RETIRED, *PROSE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Use(NamedTuple):
    """A retired word that stands in a file."""

    folder: str
    path: str
    line: int
    word: str


def uses(paths: Iterable[Path]) -> Iterator[Use]:
    """Where retired words stand in these files of the project."""
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        covered = name.startswith(tuple(f"{folder}/" for folder in FOLDERS)) or name in FILES
        built = name.startswith("docs/_build/")
        if not covered or built or path.suffix not in {*SUFFIXES, ""} or name.startswith(LEFT_OUT):
            continue
        top = name.partition("/")[0]
        is_prose = top == "src" or (path.suffix == ".md" and (top in READ or "/" not in name))
        pattern = _WORD_OF_PROSE if is_prose else _WORD
        for line, word in words(path.read_text(errors="replace"), pattern):
            yield Use(folder_of(name), name, line, word)


def words(text: str, pattern: re.Pattern[str] = _WORD) -> Iterator[tuple[int, str]]:
    """The retired words of a text, with the numbers of their lines."""
    for number, line in enumerate(_CAMEL.sub("_", text).splitlines(), 1):
        for match in pattern.finditer(line):
            yield number, match.group().lower()


def folder_of(name: str) -> str:
    """The part of the tree that a file is counted with: `src/flask_offload/web`, `tests/unit`."""
    parts = name.split("/")[:-1]
    return "/".join(parts[: 3 if parts[:2] == ["src", "flask_offload"] else 2]) or "."


def problems(paths: Iterable[Path], left: Mapping[str, int] | None = None) -> list[str]:
    """A sentence for each folder in which more retired words stand than LEFT allows."""
    left = LEFT if left is None else left
    found = list(uses(paths))
    counts = Counter(use.folder for use in found)
    sentences = []
    for folder, count in sorted(counts.items()):
        if count > (bound := left.get(folder, 0)):
            places = [
                f"{use.path}:{use.line}: {use.word} (write: {instead(use.word)})"
                for use in found
                if use.folder == folder
            ]
            sentences.append(
                "\n  ".join([f"{folder} has {count} retired words, more than {bound}:", *places])
            )
    return sentences


def instead(word: str) -> str:
    """What to write in place of a retired word."""
    known = {**RETIRED, **PROSE}.items()
    return next(new for old, new in known if re.fullmatch(old, word, re.IGNORECASE))


def doubled_classes(source: Path) -> dict[str, list[str]]:
    """The names of classes that are defined in more than one place, and these places."""
    places: dict[str, list[str]] = {}
    for path in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.ClassDef):
                place = f"{path.relative_to(source).as_posix()}:{node.lineno}"
                places.setdefault(node.name, []).append(place)
    return {name: found for name, found in places.items() if len(found) > 1}


if __name__ == "__main__":
    everything = sorted(path for path in ROOT.rglob("[!.]*") if path.is_file())
    standing = list(uses(everything))
    if "--counts" in sys.argv:
        for folder, number in sorted(Counter(use.folder for use in standing).items()):
            print(f'    "{folder}": {number},')
        print(
            *(f"{name}: {where}" for name, where in doubled_classes(ROOT / "src").items()), sep="\n"
        )
    else:
        for use in standing:
            print(f"{use.path}:{use.line}: {use.word}: {instead(use.word)}")
