"""What goes out and comes in: an erasure's card, other people's files, pictures that carry their settings."""
