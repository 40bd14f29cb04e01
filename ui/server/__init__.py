"""All that exists because visitors share one processor.

processor computes, waiting says who waits for whom, stream is what a page sees of it, and Stop; memory is
what visitors keep and for how long; zerogpu replaces processor on such Spaces.
"""
