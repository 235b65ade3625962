"""Python values to JSON and back: arguments, results, files, context of the request."""
