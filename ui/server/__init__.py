"""All that exists because visitors share one processor."""
