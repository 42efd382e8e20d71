"""`python -m platform.clean [RUN|STORAGE]`: what may be deleted, and how much that frees."""

from platform._door import enter

if __name__ == "__main__":
    enter("clean")
