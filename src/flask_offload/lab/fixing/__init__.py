"""The challenges of Fix: views in pieces, put together from given fragments only, and checked."""
