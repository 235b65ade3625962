"""Runs a reader's program, in a folder and in processes of its own, and tells step by step whether
it does what it should: the gate is the one for tests, the worker is a real one."""
