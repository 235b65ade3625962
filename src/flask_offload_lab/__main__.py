"""`python -m flask_offload_lab`."""

from .command import lab_command

if __name__ == "__main__":
    lab_command()
