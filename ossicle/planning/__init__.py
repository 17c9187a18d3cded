"""Say what an experiment will do and cost before it runs."""
