"""The plane: a two-dimensional world in which every score is known exactly."""
