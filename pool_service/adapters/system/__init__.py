"""The operating system: clock, errors, files, environment, signals and threads."""
