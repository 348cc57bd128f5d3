"""Streamed answers that continue without their client: ``threads.stream()`` and its routes."""
