"""What the project's own files are made and tried with: not part of the package."""
