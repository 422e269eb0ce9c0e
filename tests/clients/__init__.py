"""Clients: the programs of developers, each with a real SDK, against a living street."""
