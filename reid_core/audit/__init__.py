"""Per-sample evidence becomes a list of labels that look wrong."""
