"""The lab: the lesson as a Flask app, on real mail, real photos and real `kill -9`."""

PORT = 5080
"""Where the lab listens by default."""
