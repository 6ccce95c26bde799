"""Demonstrations made into others: which episodes (`episodes`), which of their rows (`pieces`), what stands in them
(`values`), and where they come from (`history`). Each edit is a function from Demos to Demos, whose notes say what it
did."""
