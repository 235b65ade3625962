"""Runs a reader's program, in a folder and in processes of its own, and checks step by step what it
does: under the gate that tests use, and with a real worker."""
