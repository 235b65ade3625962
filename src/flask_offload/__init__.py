"""Flask-Offload: move slow work out of Flask requests, and prove that it helped."""
