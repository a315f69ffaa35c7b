"""Which rows each update reads, the batches they become, and the random numbers of a batch."""
