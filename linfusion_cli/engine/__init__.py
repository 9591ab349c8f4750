"""Where images are computed: the only store_budget, with distill and landscapes, that knows torch."""
