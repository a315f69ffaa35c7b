"""Plans which rows each update reads, makes batches of them, and draws the random numbers of a batch."""
