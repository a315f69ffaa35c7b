"""Other people's data sets in, leaderboard files out."""
