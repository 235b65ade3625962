"""The club's web process, as the lab starts it: `python -m flask_offload_lab.sample_app FD`.

FD is a socket that listens. The lab keeps it open too, as the master of gunicorn does: the address
stays the same over a `kill -9`, and whoever comes in between waits instead of being refused.
"""

from __future__ import annotations

import sys

from ..serving import serve
from .app import create_app

if __name__ == "__main__":
    serve(create_app(), int(sys.argv[1]))
