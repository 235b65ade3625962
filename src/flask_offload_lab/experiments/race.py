"""Visitors come at once; what happens until their work is done is reported as it happens."""

from __future__ import annotations

import queue
import threading
import time

from flask_offload.measure import Target, ask, prepare

from ..crash_test import Pattern
from ..journal import Note
from ..testbed import POLL, LabTestbed
from . import Event, Events

BYSTANDER_AFTER = 0.15
"""Seconds after the others: when the work of the first has begun."""

APART = 0.02
"""Seconds between two visitors, so that they are served in their order."""

TIMEOUT = 60.0
"""Seconds for one answer, and for all work."""


def race(testbed: LabTestbed, pattern: Pattern, visitors: int) -> Events:
    """`visitors` people join through one route; a bystander then requests the home page.

    Spans come as two events, {"kind": "begin"} and {"kind": "end", "took": ms}, with the same "id".
    lane: "visitor N" from 0 on, "bystander", "web" (the web server's one thread), "work" or "mail".
    what: "waiting", "request", "work" or "mail" (a point in time: {"kind": "mark"}).
    """
    names = testbed.names(pattern, visitors)
    journal = testbed.journal()
    recorder = Recorder()
    seen = len(testbed.mail.mails)
    people = [
        recorder.visit(f"visitor {number}", testbed, f"/{pattern}?member={name}", number * APART)
        for number, name in enumerate(names)
    ]
    people.append(recorder.visit("bystander", testbed, "/", after=BYSTANDER_AFTER))
    recorded = 0
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        over = not any(thread.is_alive() for thread in people)
        over = over and journal.count("work-end", names) >= visitors
        notes = journal.notes
        for note in notes[recorded:]:
            if note.subject in names or note.kind.startswith("request"):
                recorder.note(note)
        recorded = len(notes)
        mails = testbed.mail.mails
        for mail in mails[seen:]:
            name = mail.recipient.partition("@")[0]
            if name in names:  # the work of earlier visitors may still go on
                recorder.mark("mail", "mail", name, text=mail.text)
        seen = len(mails)
        yield from recorder.new()
        if over:
            return
        time.sleep(POLL)
    yield {"error": "The work was not done in time; is this machine very busy?"}


class Recorder:
    """Collects the events of several threads, in ms since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._open: dict[str, float] = {}

    def new(self) -> Events:
        """The events since the last call."""
        while not self._events.empty():
            yield self._events.get()

    def begin(self, lane: str, what: str, name: str, at: float | None = None) -> None:
        """A span begins; name: of the span, within its lane."""
        at = self._ms(at)
        identity = f"{lane} {what} {name}"
        self._open[identity] = at
        self._put(lane, what, "begin", at, id=identity, name=name)

    def end(self, lane: str, what: str, name: str, at: float | None = None, **more: object) -> None:
        """A span ends; one that never began is ignored."""
        at = self._ms(at)
        identity = f"{lane} {what} {name}"
        begun = self._open.pop(identity, None)
        if begun is not None:
            took = round(at - begun, 1)
            self._put(lane, what, "end", at, id=identity, name=name, took=took, **more)

    def mark(self, lane: str, what: str, name: str, **more: object) -> None:
        """Something happens at one moment."""
        self._put(lane, what, "mark", self._ms(None), name=name, **more)

    def note(self, note: Note) -> None:
        """A line of the journal: requests in the web server, and work in whichever process."""
        what, _, edge = note.kind.partition("-")
        if edge not in ("begin", "end") or what not in ("request", "work"):
            return
        lane = "web" if what == "request" else "work"
        record = self.begin if edge == "begin" else self.end
        record(lane, what, note.subject, note.at)

    def visit(
        self, lane: str, testbed: LabTestbed, path: str, after: float = 0.0
    ) -> threading.Thread:
        """Request a page in a thread, `after` seconds from now; the wait is a span."""
        thread = threading.Thread(
            target=self._visit, args=[lane, testbed.sample_app.origin + path, after], daemon=True
        )
        thread.start()
        return thread

    def _visit(self, lane: str, url: str, after: float) -> None:
        time.sleep(after)
        request = prepare(Target(url), TIMEOUT)
        self.begin(lane, "waiting", "")
        answer = ask(request, timeout=TIMEOUT, began=time.perf_counter())
        self.end(
            lane,
            "waiting",
            "",
            ttfb=answer.ttfb_ms,
            response=answer.response_ms,
            app=answer.server_ms,
            failed=(answer.error or f"status {answer.status}") if answer.failed else None,
        )

    def _ms(self, at: float | None) -> float:
        return round(((time.monotonic() if at is None else at) - self._start) * 1000, 1)

    def _put(self, lane: str, what: str, kind: str, at: float, **more: object) -> None:
        self._events.put({"lane": lane, "what": what, "kind": kind, "at": at, **more})
