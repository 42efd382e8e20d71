"""Finds images, decodes each once into a cache on disk, and makes batches of them on the device."""
