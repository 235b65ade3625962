"""The reader's own app, as a guest in the lab: `flask offload lab --app myapp`."""
