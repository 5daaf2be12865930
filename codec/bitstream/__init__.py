"""The file format: container, headers, range coder, CDF tables, coded parameters."""
