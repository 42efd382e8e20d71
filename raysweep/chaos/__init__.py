"""The chaos test: a small search is killed, cut and filled up on purpose, resumed, and compared with one left alone."""
