"""Which rows an update reads, and the batch they become."""
