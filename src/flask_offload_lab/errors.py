"""Errors of the lab that are not caused by the reader's code."""

from __future__ import annotations

from flask_offload.errors import OffloadError


class LabError(OffloadError):
    """The lab can't be shown; the message says why."""


class ServerDown(LabError):
    """The web server did not start. The end of its log:"""


class WorkNotDone(LabError):
    """The sample app's work was not done in time. Is this machine very busy? Try again; if it stays
    so, `flask offload check` in an app of your own shows whether its worker runs."""


class PhotoError(LabError):
    """The photo can't be used; the message says why."""


class Exposed(LabError):
    """The lab starts and kills processes on request, so it listens on this machine only. To show it
    to others on purpose, add --expose, and give --host one exact address."""


class PortTaken(LabError):
    """Another program listens on this port: choose another with --port, or leave --port out."""
