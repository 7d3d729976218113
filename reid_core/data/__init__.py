"""One reader a file: ``read(root) -> Split``. A module's name is the name users type."""
