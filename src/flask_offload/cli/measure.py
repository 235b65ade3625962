"""`flask offload measure`: works on URLs, so it needs no app."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
from flask import current_app
from flask.cli import ScriptInfo
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from ..errors import NotInitialized, OffloadError
from ..measure import Measurement, Options, Variant, measure, render_html, render_text, to_json
from ..measure.budget import check_baseline, read_baseline, read_budget
from ..measure.ci import BlockingLine, annotation, summary, write_junit
from ..measure.form import parse_field
from ..measure.limits import WITHOUT_BROWSER, Check, Limit, check_labels, check_limits, parse_limit
from ..measure.runner import labels_of
from ..profiler import spot_rows
from .common import current_state

T = TypeVar("T")


def _each(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A click callback that parses every value, and turns OffloadError into click's error."""

    def callback(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Any:
        try:
            return tuple(parse(value) for value in values)
        except OffloadError as error:
            raise click.BadParameter(str(error), param=parameter) from None

    return callback


def _parse_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise OffloadError(f"{text!r} is not a header: write 'NAME: VALUE'")
    return name.strip(), value.strip()


_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("measure")
@click.argument("urls", nargs=-1, required=True, metavar="URL [URL…]")
@click.option("--bystander", metavar="PATH", help="Another page of the same server, such as /.")
@click.option("--clients", default=4, show_default=True, help="Clients that load each URL.")
@click.option("--seconds", default=6.0, show_default=True, help="How long, for each URL.")
@click.option("--probes", default=20, show_default=True, help="HTTP requests to each URL.")
@click.option("--browser/--no-browser", default=None, help="Default: if there is one.")
@click.option("--runs", default=5, show_default=True, help="Page loads of each URL that count.")
@click.option("--watch", default=0.0, metavar="SECONDS", help="Watch each page after its load.")
@click.option("--method", type=click.Choice(["GET", "POST"]), help="Default: POST with --form.")
@click.option("--form", "fields", multiple=True, metavar="K=V", callback=_each(parse_field),
              help="A form field; NAME=@FILE uploads a file.")  # fmt: skip
@click.option("--start", metavar="URL", help="The page before; its CSRF token is sent along.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'",
              callback=_each(_parse_header),
              help="Sent with every request, such as a session cookie.")  # fmt: skip
@click.option("--label", "labels", multiple=True, help="A name for each URL, in their order.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds for one request or load.")
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="HOST",
              help="A host besides this machine that may be measured.")  # fmt: skip
@click.option("--html", type=_FILE, help="Write the report to this file.")
@click.option("--save", type=_FILE, help="Write all samples to this file, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option("--fail-above", "limits", multiple=True, metavar="[LABEL:]FIGURE=VALUE",
              callback=_each(parse_limit),
              help="Exit with 1 if a figure is larger, e.g. ttfb=800ms.")  # fmt: skip
@click.option("--baseline", type=_FILE, help="Exit with 1 if worse than that --save.")
@click.option("--budget/--no-budget", default=True, show_default=True,
              help="Check the limits in pyproject.toml, [tool.flask-offload.budget].")  # fmt: skip
@click.option("--junit", type=_FILE, help="Write the outcome of the checks, for CI systems.")
def measure_command(urls: tuple[str, ...], **given: Any) -> None:
    """Measure how long visitors wait at each URL.

    Also how long a bystander waits meanwhile, on another page. The first URL counts as
    "before", the last one as "after". A path such as /page means the app that `flask run`
    serves. Every run really sends the request: with POST, the form is submitted.
    """
    options = _options(given)
    try:
        limits = _limits(urls, options, given)
        path = given["baseline"]
        earlier = read_baseline(path) if path else None
        measured = measure(urls, options, _report_step)
        checks = check_limits(limits, measured)
        if earlier is not None:
            checks += _against(earlier, path.name, measured, urls, options)
    except OffloadError as error:
        raise click.ClickException(str(error)) from None
    if given["save"]:
        measured.save(given["save"])
    if given["html"]:
        given["html"].write_text(render_html(measured), "utf-8")
    click.echo(to_json(measured) if given["as_json"] else render_text(measured))
    _report_checks(checks, measured, given["junit"])
    if not all(check.passed for check in checks):
        raise click.exceptions.Exit(1)


def _report_step(step: str) -> None:
    click.echo(f"… {step}", err=True)


def _against(
    earlier: Measurement, name: str, measured: Measurement, urls: Sequence[str], options: Options
) -> list[Check]:
    """Compare with an earlier run. What seems worse is measured a second time: a busy moment of
    this machine is no regression."""
    checks = check_baseline(measured, earlier, name)
    if all(check.passed for check in checks):
        return checks
    _report_step(f"worse than {name}: once more, to be sure")
    again = check_baseline(measure(urls, options, _report_step), earlier, name)
    confirmed = {check.name for check in again if not check.passed}
    return [
        dataclasses.replace(check, passed=check.passed or check.name not in confirmed)
        for check in checks
    ]


def _report_checks(checks: Sequence[Check], measured: Measurement, junit: Path | None) -> None:
    """On stderr, and where CI systems look for it."""
    if junit:
        write_junit(checks, junit)
    for check in checks:
        click.echo(f"{'✓ passed' if check.passed else '✗ failed'}: {check.sentence}", err=True)
    failed = [check for check in checks if not check.passed]
    lines = _blocking_lines(measured, {check.variant for check in failed})
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for check in failed:
            click.echo(annotation(check, lines.get(check.variant)), err=True)
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(summary(measured, checks, lines))


def _blocking_lines(measured: Measurement, labels: set[str]) -> dict[str, BlockingLine]:
    """Where the requests of these variants are blocked, if the profiler of the app that this
    command can load has seen it."""
    context = click.get_current_context()
    info = context.find_object(ScriptInfo)
    if info is None or not labels:
        return {}
    try:
        app = info.load_app()
    except Exception:  # it may be any app, or none: then the line stays unknown
        return {}
    with app.app_context():
        found = {variant.label: _blocking_line(variant) for variant in measured.variants}
    return {label: line for label, line in found.items() if line is not None and label in labels}


def _blocking_line(variant: Variant) -> BlockingLine | None:
    parts = urlsplit(variant.url)
    try:
        store = current_state().profiler_settings().store_path
        urls = current_app.url_map.bind(parts.hostname or "")
        rule, _ = urls.match(parts.path or "/", variant.method, return_rule=True)
    except (NotInitialized, HTTPException, RequestRedirect):
        return None
    for row in spot_rows(store) if store is not None else ():
        if row.route == f"{variant.method} {rule.rule}" and row.file:
            return _relative(row.file), row.line, row.sentence
    return None


def _relative(file: str) -> str:
    """As GitHub wants it: from the root of the checkout, where this command is run."""
    root = Path(os.environ.get("GITHUB_WORKSPACE", "."))
    try:
        return str(Path(file).resolve().relative_to(root.resolve()))
    except ValueError:
        return file


def _limits(urls: tuple[str, ...], options: Options, given: dict[str, Any]) -> list[Limit]:
    """Those of the command line, and those of the budget that this run can check."""
    _check(urls, options, given)
    if not given["budget"]:
        return list(given["limits"])
    labels = labels_of(urls, options)
    return [
        *given["limits"],
        *(limit for limit in read_budget(Path.cwd()) if _is_measured(limit, labels, options)),
    ]


def _is_measured(limit: Limit, labels: Sequence[str], options: Options) -> bool:
    """A budget is for all runs of a project, and each run measures a part of it."""
    key = limit.figure.key
    if limit.label is not None and limit.label not in labels:
        return False
    if key.startswith("bystander"):
        return options.bystander is not None
    return options.browser is not False or key in WITHOUT_BROWSER or key.startswith("http-")


def _options(given: dict[str, Any]) -> Options:
    names = {field.name for field in dataclasses.fields(Options)}
    options = {name: value for name, value in given.items() if name in names}
    options["method"] = given["method"] or ("POST" if given["fields"] else "GET")
    options["film"] = given["html"] is not None or given["save"] is not None
    return Options(**options)


def _check(urls: tuple[str, ...], options: Options, given: dict[str, Any]) -> None:
    """Check the options before measuring. Raises OffloadError."""
    if options.fields and options.method == "GET":
        raise OffloadError(
            "--form needs POST: leave --method GET out, or put the fields in the URL"
        )
    if options.labels and len(set(options.labels)) != len(urls):
        raise OffloadError(f"{len(urls)} URLs need {len(urls)} different labels, or none at all")
    check_labels(given["limits"], labels_of(urls, options))
    for path in filter(None, (given["html"], given["save"], given["junit"])):
        if not path.absolute().parent.is_dir():
            raise OffloadError(f"{path} can't be written: there is no folder {path.parent}")
