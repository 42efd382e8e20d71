"""Draws pictures of cars: bodies, a camera, a brush and the scenes around them."""
