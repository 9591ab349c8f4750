"""What will be done, by arithmetic alone: stages, shapes, costs, bands, memory and time."""
