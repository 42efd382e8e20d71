"""`python -m platform.compare RUN RUN...`: runs side by side on the same test images."""

from platform._door import enter

if __name__ == "__main__":
    enter("compare")
