"""The Scores tab."""
