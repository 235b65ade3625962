"""`flask offload measure`: works on URLs, so it needs no app."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..errors import OffloadError
from .form import parse_field
from .limits import check_labels, check_limits, parse_limit, write_junit
from .report import render_html, to_json
from .runner import Options, labels_of, measure
from .text import render_text

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
@click.option("--innocent", hidden=True, metavar="PATH", help="The old name of --bystander.")
@click.option("--clients", default=4, show_default=True, help="Clients on each URL meanwhile.")
@click.option("--seconds", default=6.0, show_default=True, help="How long, for each URL.")
@click.option("--probes", default=20, show_default=True, help="HTTP requests to each URL.")
@click.option("--browser/--no-browser", default=None, help="Default: if there is one.")
@click.option("--runs", default=5, show_default=True, help="Page loads of each URL that count.")
@click.option("--watch", default=0.0, metavar="SECONDS", help="Watch pages on after their load.")
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
@click.option("--junit", type=_FILE, help="Write what --fail-above found, for CI systems.")
def measure_command(urls: tuple[str, ...], **given: Any) -> None:
    """Measure what a visitor waits at each URL, and what a bystander waits meanwhile.

    The first URL counts as "before", the last one as "after". A path such as /page means the app
    that `flask run` serves. Every run really sends the request: with POST, the form is submitted.
    """
    options = _options(given)
    try:
        _check(urls, options, given)
        measured = measure(urls, options, lambda step: click.echo(f"… {step}", err=True))
    except OffloadError as error:
        raise click.ClickException(str(error)) from None
    if given["save"]:
        measured.save(given["save"])
    if given["html"]:
        given["html"].write_text(render_html(measured), "utf-8")
    click.echo(to_json(measured) if given["as_json"] else render_text(measured))
    checks = check_limits(given["limits"], measured)
    if given["junit"]:
        write_junit(checks, given["junit"])
    for check in checks:
        click.echo(f"{'✓ passed' if check.passed else '✗ failed'}: {check.sentence}", err=True)
    if not all(check.passed for check in checks):
        raise click.exceptions.Exit(1)


def _options(given: dict[str, Any]) -> Options:
    names = {field.name for field in dataclasses.fields(Options)}
    options = {name: value for name, value in given.items() if name in names}
    options["bystander"] = given["bystander"] or given["innocent"]
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
