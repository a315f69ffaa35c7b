"""Task types: the file of each, and what they share; kinds.py puts them together."""
