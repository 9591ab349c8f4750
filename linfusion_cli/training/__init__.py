"""Training, for every model here: rate schedule, optimiser, moving average, checkpoints, and a loop that resumes."""
