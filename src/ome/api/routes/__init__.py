"""The ordinary routes, a module for each subject; each has one class whose `add_to` declares them to FastAPI."""
