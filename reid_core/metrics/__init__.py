"""Validate, choose a backend, return a value."""
