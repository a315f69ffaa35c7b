"""Rows in, token ids and scores out. Everything here runs without torch."""
