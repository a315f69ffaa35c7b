"""Short runs whose figures are known: see README.md in this folder."""
