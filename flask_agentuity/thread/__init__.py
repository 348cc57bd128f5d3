"""A conversation thread and its state."""
