"""The app's look: colours, type, style sheet, keys."""
