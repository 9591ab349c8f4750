"""The page that shows an image of any size: tiles, the record, memory, stages and previews, served on loopback."""
