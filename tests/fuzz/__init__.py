"""`make fuzz`: valid files, changed at random, over everything that reads a file or a value from outside."""
