"""Statements that both SQL stores execute, in the words of each."""

from __future__ import annotations

from typing import NamedTuple


class Dialect(NamedTuple):
    """schema: what stands before the names of tables. mark: of a parameter. like: the operator that
    ignores case. running_jobs: the table of jobs, for those that run. side_args: a condition on
    arguments that are not in the job's row. locks_rows: whether a row is locked by FOR UPDATE,
    because others write at the same time."""

    schema: str
    mark: str
    like: str
    running_jobs: str = "offload.jobs"
    side_args: str = ""
    locks_rows: bool = False

    def sql(self, statement: str) -> str:
        """The statement, in which `offload.` stands for the schema and `?` for a parameter."""
        if not self.locks_rows:
            statement = statement.replace(" FOR UPDATE", "")
        if self.mark == "%s":
            statement = statement.replace("%", "%%")
        return statement.replace("offload.", self.schema).replace("?", self.mark)


SQLITE = Dialect(
    schema="",
    mark="?",
    like="LIKE",
    running_jobs="jobs INDEXED BY jobs_running",  # few; SQLite would rather save the sorting
    side_args="EXISTS (SELECT 1 FROM payloads WHERE payloads.seq = looked.seq AND payloads.args",
)
POSTGRES = Dialect(schema="offload.", mark="%s", like="ILIKE", locks_rows=True)
