"""A client that openapi-python-client made from the description, beside this file as `generated`.

`python generated_client.py ORIGIN NAME=ID…` prints what the client parses for each of these jobs:
with `status`, without it, and when the job is cancelled.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx
from generated import Client  # type: ignore[import-not-found]
from generated.api.default import cancel_job, show_job  # type: ignore[import-not-found]


def parsed(response: Any) -> str:
    """Status and what it was parsed to: a job's status, a problem's title, or a redirect."""
    found = response.parsed
    what = getattr(found, "title", None) or getattr(found, "status", None)
    return f"{int(response.status_code)} {type(found).__name__} {what}"


def main(origin: str, jobs: dict[str, str]) -> dict[str, list[str]]:
    client = Client(base_url=f"{origin}/offload", timeout=httpx.Timeout(20))
    return {
        name: [
            parsed(show_job.sync_detailed(job_id, client=client, status="")),
            parsed(show_job.sync_detailed(job_id, client=client)),
            parsed(cancel_job.sync_detailed(job_id, client=client)),
        ]
        for name, job_id in jobs.items()
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], dict(pair.split("=") for pair in sys.argv[2:]))))
