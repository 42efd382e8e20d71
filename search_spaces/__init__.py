"""The studies: one file each, data only."""
