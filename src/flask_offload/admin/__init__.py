"""What operators ask of the SQL engines: search, counts, checks, changes of many jobs, pruning."""
