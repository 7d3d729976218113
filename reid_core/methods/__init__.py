"""One training method a file; see ``docs/methods.md`` for what a module must offer."""

PLAIN = "baseline"
"""The method that believes every label: where labels are clean, nothing else is needed."""
