"""The project of Build: the app that the reader starts with, and it after each step."""
