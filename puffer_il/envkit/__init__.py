"""`puffer-il env new | check | play | bench`: making environments and looking at them."""
