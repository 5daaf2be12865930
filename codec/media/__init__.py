"""Pictures and clips as planes of integer samples: formats, timing, readers, writers, metrics."""
