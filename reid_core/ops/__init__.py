"""Compiled operations, one a file."""
