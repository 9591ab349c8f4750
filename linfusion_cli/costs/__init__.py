"""What a pass costs: multiplications, values, and what waits where, by arithmetic that mirrors the engine."""
