"""Four hosts, each in a network namespace of its own: a web server, two workers, a broker."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

import celery_app
from brokers import Redis
from celery_server import COMMAND, CelerySite, make_site
from flask_offload import JobStatus
from hosts import Hosts, hosts
from support import Running, running

pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


class RedisElsewhere(Redis):
    """A Redis on another host."""

    hosts: Hosts

    def program(self, words: list[str]) -> list[str]:
        return self.hosts.command("broker", words)


def _worker(stack: ExitStack, site: CelerySite, network: Hosts, name: str) -> Running:
    words = [sys.executable, "-m", "flask", *COMMAND, "worker", "--threads", "2"]
    return stack.enter_context(
        running(network.command(name, words), env=site.env, cwd=site.folder, ready=" ready.")
    )


@pytest.mark.timeout(180)
def test_one_worker_host_is_cut_off_and_another_dies_and_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hosts("web", "one", "two", "broker") as network, ExitStack() as stack:
        RedisElsewhere.hosts = network
        broker = RedisElsewhere(tmp_path, 6379, host=network.address("broker"))
        stack.callback(broker.close)
        stack.enter_context(network.being("web"))
        broker.start()
        site = stack.enter_context(make_site(tmp_path, monkeypatch, broker))
        one = _worker(stack, site, network, "one")
        long = celery_app.until_cancelled.enqueue(15.0)  # a busy machine is slow to start the next
        site.wait_for_witness("start")
        two = _worker(stack, site, network, "two")
        jobs = site.offload.enqueue_many([celery_app.slow.call(0.2) for _ in range(60)])
        site.wait_for_witness("end", 10)

        network.pull("one")  # cut off: it runs, and no other host can see it
        cut = time.monotonic()
        site.wait(*jobs, long, timeout=60)
        print(f"\nall done {time.monotonic() - cut:.0f} s after host one was cut off")
        account = site.account([*jobs, long], "host one is cut off, host two goes on")
        assert account.statuses == {JobStatus.SUCCESSFUL: len(jobs) + 1}
        assert account.lost == account.unexcused == []
        assert [tried.outcome for tried in long.attempts] == ["CRASHED", "SUCCESSFUL"]

        two.kill_family()  # a host that dies
        more = [celery_app.add.enqueue(1, number) for number in range(10)]
        network.plug("one")
        healed = time.monotonic()
        site.wait(*more, timeout=60)
        took = time.monotonic() - healed
        account = site.account(
            more, f"host two is dead, host one works {took:.0f} s after its cable"
        )
        assert account.statuses == {JobStatus.SUCCESSFUL: len(more)}
        assert took < 30
        one.wait_for("came too late")  # what it did of the long job while it was cut off
        assert len(site.witnessed("start", long)) == 2
