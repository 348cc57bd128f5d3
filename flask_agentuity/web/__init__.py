"""Threads in Flask: the manager, the hooks of a request, configuration and commands."""
