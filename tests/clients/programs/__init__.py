"""Programs of developers. Their environments are their own: nothing here imports the project."""
