"""Task types: one file each, one entry each in kinds.py."""
