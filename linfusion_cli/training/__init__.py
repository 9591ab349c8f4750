"""What every training shares: rate schedule, moving average, checkpoints, the loop that goes on where it was stopped."""
