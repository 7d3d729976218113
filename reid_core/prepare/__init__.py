"""Released archives and folders become a training layout; splitting and checking of users' own."""
