"""The lab: notebooks, their answers' checks, their widgets, and how they are built."""
