"""When a worker is calm again after processes have died."""

from __future__ import annotations

from flask_offload.worker.crash_cooldown import CALM_AFTER, UNREST_MOST, Unrest


def test_calm_comes_some_time_after_the_last_death() -> None:
    unrest = Unrest()
    assert unrest.left(100.0) == 0
    unrest.note(100.0)
    assert unrest.left(100.0) == CALM_AFTER
    unrest.note(102.0)
    assert unrest.left(102.5) == CALM_AFTER - 0.5
    assert unrest.left(102.0 + CALM_AFTER) == 0


def test_who_waits_for_calm_does_not_wait_for_ever() -> None:
    unrest, calm_at = Unrest(), []
    for death in range(200):  # one every 0.7 seconds
        unrest.note(death * 0.7)
        if not unrest.left(death * 0.7 + 0.69):
            calm_at.append(death * 0.7)
    assert len(calm_at) == 2
    assert UNREST_MOST - 0.7 < calm_at[0] < UNREST_MOST
    assert calm_at[1] - calm_at[0] > UNREST_MOST - 0.7
