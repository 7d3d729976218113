"""One training method a file; see ``docs/methods.md`` for what a module must offer."""
