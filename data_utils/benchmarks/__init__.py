"""Reads other people's data sets, and writes files for leaderboards."""
