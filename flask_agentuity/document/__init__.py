"""JSON, operations and merging: pure functions on documents."""
