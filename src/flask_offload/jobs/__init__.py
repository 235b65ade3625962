"""One job and its attempts: what is stored, what runs, what is reported and logged."""
