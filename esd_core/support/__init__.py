"""What the method stands on: files, options that are checked, several processes."""
