"""Training in several processes, called ranks."""
