"""Speed and quality claims, one script each: `python -m bench.<name>` prints its result."""
