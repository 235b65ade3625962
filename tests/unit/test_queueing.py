"""How many workers a load needs: `benchmarks/erlang.py`, its formula beside its simulation."""

from __future__ import annotations

import math

import pytest
from benchmarks.erlang import SHAPES, Load, Seen, servers_needed, simulate

JOBS = 40_000


@pytest.mark.parametrize(
    ("servers", "offered", "must_wait"),
    [(1, 0.5, 1 / 2), (1, 0.9, 0.9), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9), (4, 3.0, 0.50943396)],
)
def test_erlang_c_gives_what_can_be_worked_out_by_hand(
    servers: int, offered: float, must_wait: float
) -> None:
    assert Load(offered, 1.0, servers).must_wait == pytest.approx(must_wait)


def test_one_server_is_the_textbook_queue() -> None:
    """M/M/1: mean wait = busy / (μ - λ), and P(wait > t) = busy exp(-(μ - λ) t)."""
    load = Load(rate=0.8, service=1.0, servers=1)
    assert load.mean_wait == pytest.approx(0.8 / 0.2)
    assert 0.8 * math.exp(-0.2 * load.wait(0.95)) == pytest.approx(0.05)


def test_as_many_jobs_as_servers_can_do_are_too_many() -> None:
    load = Load(rate=4.0, service=1.0, servers=4)
    assert (load.must_wait, load.mean_wait, load.wait(0.5)) == (1.0, math.inf, math.inf)


def test_hundreds_of_servers_overflow_nothing() -> None:
    assert 0 < Load(rate=480.0, service=1.0, servers=500).must_wait < 1


@pytest.mark.parametrize(
    "load", [Load(0.6, 1.0, 1), Load(5.0, 0.6, 4), Load(6.0, 0.6, 6), Load(20.0, 0.6, 16)]
)
def test_the_simulation_agrees_with_the_formula(load: Load) -> None:
    """Two ways to the same figures that share no line. The seed is fixed, so this fails or not for
    good; the tolerance is what so few jobs leave to chance."""
    seen = Seen.of(simulate(load, JOBS))
    assert seen.must_wait == pytest.approx(load.must_wait, rel=0.06)
    assert seen.mean_wait == pytest.approx(load.mean_wait, rel=0.12)
    assert seen.p95 == pytest.approx(load.wait(0.95), rel=0.12)


@pytest.mark.parametrize("shape", ["constant", "mixed"])
def test_other_service_times_wait_as_their_variation_says(shape: str) -> None:
    draw, variation = SHAPES[shape]
    load = Load(5.0, 0.6, 4)
    found = Seen.of(simulate(load, JOBS, draw)).mean_wait
    # an approximation: exact for one server only
    assert found == pytest.approx(load.mean_wait * (1 + variation) / 2, rel=0.2)
    assert found != pytest.approx(load.mean_wait, rel=0.3), "else nothing is shown"


def test_so_many_servers_and_not_one_less() -> None:
    servers = servers_needed(rate=20.0, service=0.6, within=0.5)
    assert Load(20.0, 0.6, servers).wait(0.95) <= 0.5 < Load(20.0, 0.6, servers - 1).wait(0.95)
    seen = Seen.of(simulate(Load(20.0, 0.6, servers), JOBS))
    assert seen.p95 <= 0.5
