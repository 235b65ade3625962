"""A module whose import takes a while, as pandas' does."""

from __future__ import annotations

import time

time.sleep(0.09)
VALUE = 7
