"""What CI systems show of the checks: JUnit, GitHub's annotations and its summary of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from .limits import Check
from .report import HEADINGS, leading, report, shown_value
from .samples import Measurement

BlockingLine = tuple[str, int, str]
"""A file, a line in it, and a sentence: where a variant's request is blocked."""


def write_junit(checks: Sequence[Check], path: Path) -> None:
    """The checks as JUnit XML, which CI systems show beside the tests."""
    failures = str(sum(not check.passed for check in checks))
    suite = ElementTree.Element(
        "testsuite", name="flask offload measure", tests=str(len(checks)), failures=failures
    )
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", classname="evidence", name=check.name)
        if not check.passed:
            ElementTree.SubElement(case, "failure", message=check.sentence)
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def annotation(check: Check, line: BlockingLine | None) -> str:
    """A failed check as a workflow command of GitHub Actions, on the line that blocks if known."""
    if line is None:
        return f"::error title={_property('flask offload measure')}::{_data(check.sentence)}"
    file, number, sentence = line
    place = f"file={_property(file)},line={number},title={_property('flask offload measure')}"
    return f"::error {place}::{_data(f'{check.sentence}. {sentence}')}"


def _data(text: str) -> str:
    """Escaped as GitHub's toolkit does it (actions/core, command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def summary(
    measurement: Measurement, checks: Sequence[Check], lines: Mapping[str, BlockingLine]
) -> str:
    """The outcome in Markdown. lines: by the variants' labels."""
    shown = report(measurement)
    lead = leading(measurement.variants)
    titles = ["Page", *(HEADINGS[figure.key] for figure in lead), "Verdict"]
    rows = [titles, ["---"] * len(titles)]
    for variant, judged in zip(measurement.variants, shown.verdicts, strict=True):
        figures = [shown_value(figure, variant) for figure in lead]
        rows.append([f"`{variant.label}`", *figures, str(judged)])
    text = ["### flask offload measure", "", shown.headline, ""]
    text += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    text += ["", *(f"- {'✓' if check.passed else '✗'} {check.sentence}" for check in checks)]
    text += [
        f"- `{label}` is blocked at `{file}:{number}`: {sentence}"
        for label, (file, number, sentence) in lines.items()
    ]
    return "\n".join(text) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
