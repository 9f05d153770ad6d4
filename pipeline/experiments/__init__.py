"""Experiments: committed configurations, their records, and the tables made from them."""
