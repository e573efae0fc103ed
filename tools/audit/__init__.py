"""Looks for known vulnerabilities in what is pinned, in all four languages."""
