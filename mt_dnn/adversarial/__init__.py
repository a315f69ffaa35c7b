"""Adversarial modes: one short file each, one entry each in modes.py."""
