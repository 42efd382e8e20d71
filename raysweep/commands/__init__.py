"""The commands of the command line, a file for each that needs the cluster and one for the others."""
