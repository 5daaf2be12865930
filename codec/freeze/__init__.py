"""From a trained float model to the integers of the stream: where the two wings meet."""
