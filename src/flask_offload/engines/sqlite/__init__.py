"""The default store: jobs in one SQLite file, no broker."""
