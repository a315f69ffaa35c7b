"""Task types. Each has its head and its decoding in one file here. kinds.py collects them."""
