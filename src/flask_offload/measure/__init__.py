"""What visitors wait: over HTTP and in a real browser, as samples, findings and a report."""
