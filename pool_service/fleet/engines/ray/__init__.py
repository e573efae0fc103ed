"""Ray as what knows the members of a fleet: asked by a process of its own, and for nothing else."""
