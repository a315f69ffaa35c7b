"""Adversarial modes: each is one file here and one entry in modes.py."""
