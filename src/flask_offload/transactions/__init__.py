"""Jobs that belong to a transaction of the app's SQLAlchemy database."""
