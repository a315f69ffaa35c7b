"""Rows in, token ids and scores out: everything here runs with torch not installed."""
