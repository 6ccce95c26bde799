"""Any environment as a vector, behind one contract."""
