"""Measurements of speed: what a training step costs."""
