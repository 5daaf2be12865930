"""Pictures and clips as planes of integer samples: formats, colour, timing, readers, writers, metrics."""
