"""Check an experiment and run it."""
