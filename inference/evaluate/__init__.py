"""Compares ways to anonymise clinical photographs: one loop over methods, metrics that add up, attacks, one report."""
