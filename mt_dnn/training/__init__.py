"""From batches to new weights."""
