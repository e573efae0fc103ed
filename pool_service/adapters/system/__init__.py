"""The operating system: its clock, errors, files, variables and threads."""
