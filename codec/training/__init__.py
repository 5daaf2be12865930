"""Training of one segment: the loss, the schedules, the optimizers, and the loop."""
