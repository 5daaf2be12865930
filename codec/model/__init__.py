"""The float model of one segment, built from the same description as the integer decoder."""
