"""Folders of a trained run that other software reads: transformers and sentence-transformers."""
