"""One file, one format of demonstrations."""
