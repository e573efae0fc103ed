"""Processes: started, watched and ended, each with its descendants."""
