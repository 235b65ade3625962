"""The process, or the threads, that run jobs."""
