"""What every training shares: rate schedule, moving average, checkpoints, and the loop that resumes a stopped run."""
