"""Tests state the rules in their own words."""
