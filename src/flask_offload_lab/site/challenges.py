"""The challenges of Fix, by key."""

from __future__ import annotations

from ..challenges import Challenges
from .content import read

CHALLENGES = {each.key: each for each in read("fix", Challenges).challenges}
