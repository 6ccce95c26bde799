"""`puffer-il env check`: does an environment keep to the contract?"""
