"""What was asked: presets, the table of options, and the job that they resolve to."""
