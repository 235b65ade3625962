"""When a worker is calm again after processes have died."""

from __future__ import annotations

from flask_offload.worker.crash_cooldown import COOLDOWN, LONGEST_COOLDOWN, CrashCooldown


def test_the_cooldown_ends_some_time_after_the_last_crash() -> None:
    cooldown = CrashCooldown()
    assert cooldown.left(100.0) == 0
    cooldown.note(100.0)
    assert cooldown.left(100.0) == COOLDOWN
    cooldown.note(102.0)
    assert cooldown.left(102.5) == COOLDOWN - 0.5
    assert cooldown.left(102.0 + COOLDOWN) == 0


def test_the_cooldown_has_a_longest_time() -> None:
    cooldown, calm_at = CrashCooldown(), []
    for death in range(200):  # one every 0.7 seconds
        cooldown.note(death * 0.7)
        if not cooldown.left(death * 0.7 + 0.69):
            calm_at.append(death * 0.7)
    assert len(calm_at) == 2
    assert LONGEST_COOLDOWN - 0.7 < calm_at[0] < LONGEST_COOLDOWN
    assert calm_at[1] - calm_at[0] > LONGEST_COOLDOWN - 0.7
