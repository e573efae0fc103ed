"""The API of the front."""
