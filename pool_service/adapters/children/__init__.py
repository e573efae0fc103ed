"""Programs that the runtime's own interpreter runs. They import the standard library alone."""
