"""Lists of jobs: what is asked for, what comes back, and how an engine that only has `list` makes
pages and groups of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ..errors import JobNotFound
from ..jobs.job import JobRecord, JobStatus


class JobQuery(msgspec.Struct, kw_only=True, frozen=True):
    """Which jobs to list or count; None means any. At most `limit` (1 to 1000), newest first.

    The rest is for `Engine.page` only. error: the type of the last error. text: is in the
    arguments, an error or the progress message, whatever the case. since, until: when it was
    enqueued (unix seconds). after: `JobPage.next` of the page before, or the id of its last job;
    `offset` is for `list`.
    """

    status: JobStatus | None = None
    task: str | None = None
    queue_name: str | None = None
    owner: str | None = None
    limit: int = 50
    offset: int = 0
    error: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None
    after: str | None = None


LOOK = 2000
"""Jobs that `Engine.page` looks at, where no index leads to those that are wanted."""


class JobPage(msgspec.Struct, kw_only=True, frozen=True):
    """A part of a list of jobs, newest first.

    next: where the next page begins; None: there is no more. is_partial: the look ended before the
    page was full, so that there may be more behind it.
    """

    jobs: Sequence[JobRecord]
    next: str | None
    is_partial: bool = False


class FailureGroup(msgspec.Struct, kw_only=True, frozen=True):
    """FAILED jobs of one task with one type of error (None: unknown). job_id, message and at (unix
    seconds): of the newest."""

    task: str
    error: str | None
    count: int
    job_id: str
    message: str | None
    at: float | None


class Lists(Protocol):
    """The part of an engine that is used here."""

    def list(self, query: JobQuery) -> list[JobRecord]: ...
    def arguments(self, job_id: str) -> str: ...


def page_of_list(engine: Lists, query: JobQuery, look: int) -> JobPage:
    """`Engine.page` by `Engine.list`. A page begins behind the job whose id is `query.after`."""
    place = looked = 0
    found: list[JobRecord] = []
    is_behind = query.after is None
    while True:
        records = engine.list(msgspec.structs.replace(query, limit=200, offset=place, after=None))
        for record in records:
            place += 1
            if not is_behind:
                is_behind = record.id == query.after
                continue
            looked += 1
            if _matches(engine, record, query):
                found.append(record)
            if len(found) == query.limit or looked == look:
                is_partial = len(found) < query.limit
                return JobPage(jobs=found, next=record.id, is_partial=is_partial)
        if len(records) < 200:
            return JobPage(jobs=found, next=None)


def _matches(engine: Lists, record: JobRecord, query: JobQuery) -> bool:
    """Whether it meets the conditions of a query that `list` does not know."""
    if query.error is not None and (record.error is None or record.error.type != query.error):
        return False
    if query.since is not None and record.enqueued_at < query.since:
        return False
    if query.until is not None and record.enqueued_at >= query.until:
        return False
    if query.text is None:
        return True
    errors = [attempt.error for attempt in record.attempts if attempt.error is not None]
    texts = [record.message or "", *(f"{error.type} {error.message}" for error in errors)]
    if any(query.text.lower() in text.lower() for text in texts):
        return True
    try:
        return query.text.lower() in engine.arguments(record.id).lower()
    except JobNotFound:  # it was deleted meanwhile
        return False


def group_failures(records: Sequence[JobRecord]) -> list[FailureGroup]:
    """Groups of these FAILED jobs, which come newest first."""
    groups: dict[tuple[str, str | None], FailureGroup] = {}
    for record in records:
        error = record.error
        key = record.task, error.type if error else None
        known = groups.get(key)
        if known is not None:
            groups[key] = msgspec.structs.replace(known, count=known.count + 1)
        else:
            groups[key] = FailureGroup(
                task=record.task,
                error=key[1],
                count=1,
                job_id=record.id,
                message=error.message if error else None,
                at=record.finished_at,
            )
    return list(groups.values())
