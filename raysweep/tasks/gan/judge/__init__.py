"""A small classifier by whose features and answers generated images are scored."""
