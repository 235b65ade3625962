"""What is declared: tasks, their options, retries, rates, schedules and names."""
