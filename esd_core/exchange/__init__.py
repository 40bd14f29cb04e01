"""What goes out and comes in: models, cards, other people's files, pictures that carry their settings."""
