"""One image on several processes: rows of activations split over ranks, exactly (docs/many-devices.md)."""
