"""All that exists because visitors share one processor.

processor computes, waiting says who waits for whom, stop ends jobs, stream is what a page sees of
them, session and memory are what is kept and for how long, zerogpu replaces processor on such Spaces.
"""
