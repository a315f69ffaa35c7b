"""From batches to new weights: the training step, the loop around it, optimizers and schedules."""
