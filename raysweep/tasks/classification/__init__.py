"""Image classification: configuration, networks, task, evaluation, and rejection of what is none of the classes."""
