"""The processes that run jobs, for any store: supervisor, pool, child, keeper."""
