"""A process that enqueues, as a web process or a script would, until it is stopped or killed.

python -m torture.enqueuer COUNT SEED PAUSE
"""

from __future__ import annotations

import random
import sys
import time

from flask_offload import EngineUnavailable

from .app import create_app, enqueue_some
from .event_log import note


def main(count: int, seed: int, pause: float) -> None:
    """Enqueue so many calls of the mix, with a pause of so many seconds between them."""
    chance = random.Random(seed)
    app = create_app()
    with app.app_context():
        while count > 0:
            try:
                count -= len(enqueue_some(chance))
            except EngineUnavailable as error:
                note("refused", type(error).__name__)
                time.sleep(0.05)
            time.sleep(chance.uniform(0, 2 * pause))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
