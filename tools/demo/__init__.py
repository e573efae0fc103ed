"""The demo, and the small models that it and the tests serve."""
