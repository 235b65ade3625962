"""The PostgreSQL store: durable jobs for many machines, no broker."""
