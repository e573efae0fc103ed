"""Programs run by the runtime's interpreter; they import the standard library only."""
