"""Which request blocks, and which function is the cause."""
