"""How single values are carried. `registry` is the door; `base` explains the encoding."""
