"""Proposes a study for a folder of images: looks at the images and the machine, chooses, and writes a study file."""
