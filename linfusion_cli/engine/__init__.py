"""Where pictures are computed: the only room, with distill and landscapes, that knows torch."""
