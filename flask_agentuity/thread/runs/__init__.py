"""Runs: streamed answers that continue without their client."""
