"""The training loop and what it stands on. Nothing here knows a method's name."""
