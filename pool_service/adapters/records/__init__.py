"""Records: what a later service has to know, on the disk."""
